"""Side inputs: what every run is given whole, and a model that one transform trains and the next one uses."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.errors import ArgumentError, ScriptError
from tests.running import script

ROWS = [{"id": str(i), "x": float(i)} for i in range(20)]
WORDS = [beam.Row(id=str(i), word=f"word {i}") for i in range(20)]


class Join(beam.PTransform):
    """Joins the rows to words by side input."""

    def __init__(self, **arguments):
        super().__init__()
        self._arguments = arguments

    def expand(self, rows):
        words = rows.pipeline | "Words" >> beam.Create(WORDS)
        return rows | RunTFScript(
            script("sides.py"), "id string, word string", input_schema="id string, x float", entry="join",
            side_inputs={"words": words}, **self._arguments,
        )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [{"num_workers": 2}, {"feed": "stream"}, {"placement": "one_host", "num_workers": 2}],
    ids=["dataset", "stream", "cluster"],
)
def test_every_run_is_given_the_whole_side_input(runner, arguments):
    rows = runner.run(Join(**arguments), ROWS)
    assert sorted((row["id"], row["word"]) for row in rows) == sorted((row["id"], f"word {row['id']}") for row in ROWS)


def test_each_window_has_its_own(runner):
    class Windowed(beam.PTransform):
        def expand(self, rows):
            words = rows.pipeline | "Words" >> beam.Create(
                [{"id": str(i), "word": f"{i // 10}"} for i in range(20)], reshuffle=False
            )
            words = words | "StampWords" >> beam.Map(lambda row: TimestampedValue(row, int(row["id"])))
            words = words | "WindowWords" >> beam.WindowInto(FixedWindows(10))
            return rows | RunTFScript(
                script("sides.py"), "id string, word string", input_schema="id string, x float", entry="join",
                side_inputs={"words": (words, "id string, word string")},
            )  # fmt: skip

    def window(rows):
        return rows | beam.Map(lambda row: TimestampedValue(row, row["x"])) | beam.WindowInto(FixedWindows(10))

    rows = runner.run(Windowed(), ROWS, before=window)
    assert {(row["id"], row["word"]) for row in rows} == {(str(i), str(i // 10)) for i in range(20)}


def test_a_model_is_the_side_input_of_the_next_transform(runner, tmp_path):
    class TrainAndScore(beam.PTransform):
        def expand(self, rows):
            model = rows | "Train" >> TrainTFScript(
                script("sides.py"), str(tmp_path / "models"), input_schema="id string, x float", entry="double"
            )
            return rows | "Score" >> RunTFScript(
                script("sides.py"), "id string, y float", input_schema="id string, x float", entry="weight",
                side_inputs={"model": model},
            )  # fmt: skip

    rows = runner.run(TrainAndScore(), ROWS)
    assert sorted((int(row["id"]), row["y"]) for row in rows) == [(i, 2.0 * i) for i in range(20)]


def test_a_name_that_is_not_there_is_told_with_those_that_are(runner):
    with pytest.raises(Exception, match="there is no side input 'nothing'; the transform was given none") as raised:
        runner.run(RunTFScript(script("sides.py"), "id string", input_schema="id string", entry="missing"), ROWS[:1])
    assert isinstance(raised.value, ScriptError) or "ScriptRaised" in str(raised.value)


def test_rejects_what_cannot_be_a_side_input():
    pipeline = beam.Pipeline()
    rows = pipeline | beam.Create(ROWS)
    with pytest.raises(ArgumentError, match="must be a PCollection"):
        RunTFScript(script("echo.py"), side_inputs={"words": [1]})
    with pytest.raises(ArgumentError, match="plain identifiers, got '../x'"):
        RunTFScript(script("echo.py"), side_inputs={"../x": rows})
    with pytest.raises(ArgumentError, match='not for feed="bundles"'):
        RunTFScript(script("echo.py"), side_inputs={"words": rows}, feed="bundles")
    with pytest.raises(ArgumentError, match=r"side_inputs\['words'\]: The columns of the input are not known"):
        _ = rows | RunTFScript(script("echo.py"), input_schema="id string", side_inputs={"words": rows})


def test_rejects_side_inputs_of_an_endless_stream():
    pipeline = beam.Pipeline()
    words = pipeline | "Words" >> beam.Create(WORDS)
    rows = pipeline | TestStream().advance_watermark_to_infinity()
    with pytest.raises(ArgumentError, match="where a run may begin at a timer"):
        _ = rows | RunTFScript(script("echo.py"), input_schema="id string", side_inputs={"words": words})
