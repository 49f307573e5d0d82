"""Side inputs: PCollections that each run is given as a whole, and a model that the next transform uses."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, GlobalWindow, TimestampedValue

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.data import tfrecord
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.run_dataset import RunShard
from beam_tfscript.dofns.side_files import side_input_files
from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError, ScriptError
from tests.disks import tmpfs
from tests.joins import ROWS, WORDS, Join, check_joined
from tests.running import script
from tests.without_tensorflow import blocked

pytestmark = pytest.mark.tensorflow


def test_every_task_of_a_cluster_is_given_the_whole_side_input(in_memory):
    check_joined(in_memory.run(Join(placement="one_host", num_workers=2), ROWS))


def test_each_window_has_its_own(in_memory):
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

    rows = in_memory.run(Windowed(), ROWS, before=window)
    assert {(row["id"], row["word"]) for row in rows} == {(str(i), str(i // 10)) for i in range(20)}


def test_a_model_is_the_side_input_of_the_next_transform(in_memory, tmp_path):
    class TrainAndScore(beam.PTransform):
        def expand(self, rows):
            model = rows | "Train" >> TrainTFScript(
                script("sides.py"), str(tmp_path / "models"), input_schema="id string, x float", entry="double"
            )
            return rows | "Score" >> RunTFScript(
                script("sides.py"), "id string, y float", input_schema="id string, x float", entry="weight",
                side_inputs={"model": model},
            )  # fmt: skip

    rows = in_memory.run(TrainAndScore(), ROWS)
    assert sorted((int(row["id"]), row["y"]) for row in rows) == [(i, 2.0 * i) for i in range(20)]


def sides_of(*payloads):
    """Side input as a DoFn is given it."""
    return [("words", (1, tfrecord.frame([payload]))) for payload in payloads]


@pytest.fixture
def side_options():
    words = beam.Pipeline() | beam.Create(WORDS)
    transform = RunTFScript(script("sides.py"), input_schema="id string", entry="join", side_inputs={"words": words})
    given = transform._options
    return given.resolve("dataset", given.input_schema, side_schemas={"words": None})


def taken(options, scratch, sides, window=(0.0, 10.0)):
    return side_input_files(options, str(scratch), window, sides)


def content(files):
    return tfrecord.read(files["words"]["path"])


def test_files_are_shared_while_the_side_input_is_the_same_and_written_anew_when_it_fires_again(side_options, tmp_path):
    with taken(side_options, tmp_path, sides_of(b"a", b"b")) as first:
        with taken(side_options, tmp_path, sides_of(b"b", b"a")) as second:
            assert second == first
        with taken(side_options, tmp_path, sides_of(b"c")) as newer:
            assert content(newer) == [b"c"] and content(first) == [b"a", b"b"]
        assert content(first) == [b"a", b"b"]
    assert not os.path.exists(first["words"]["path"]) and os.path.exists(newer["words"]["path"])


def test_runs_that_begin_together_share_the_files(side_options, tmp_path):
    def path(_):
        with taken(side_options, tmp_path, sides_of(b"a" * 10_000, b"b")) as files:
            begun.wait(20)
            return files["words"]["path"]

    begun = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(path, range(4)))) == 1
    assert len(os.listdir(tmp_path)) == 1


def test_files_of_windows_that_are_over_are_removed(side_options, tmp_path):
    for start in range(0, 100, 10):
        with taken(side_options, tmp_path, sides_of(b"a"), (start, start + 10)) as files:
            assert content(files) == [b"a"]
    assert len(os.listdir(tmp_path)) == 2


def test_failed_write_leaves_no_file_to_the_next_write(side_options, tmp_path):
    large = sides_of(b"x" * (1 << 20), b"y" * (3 << 20))
    with tmpfs(tmp_path / "small", "size=2m") as small:
        with (
            pytest.raises(ScriptEnvironmentError, match="No space left on device"),
            taken(side_options, small, large),
        ):
            pass
        assert os.listdir(small) == []
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        with taken(side_options, small, large) as files:
            assert list(map(len, content(files))) == [1 << 20, 3 << 20]
        shutil.rmtree(small / os.listdir(small)[0])


def test_unknown_name_is_an_error_with_the_known_names(in_memory):
    with pytest.raises(Exception, match="there is no side input 'nothing'; the transform was given none") as raised:
        in_memory.run(RunTFScript(script("sides.py"), "id string", input_schema="id string", entry="missing"), ROWS[:1])
    assert isinstance(raised.value, ScriptError) or "ScriptRaised" in str(raised.value)


def test_rejects_values_that_are_no_side_inputs():
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


def test_run_is_given_the_side_input_that_is_current_at_its_start(side_options, tmp_path):
    """Fire a side input again while the main input goes on, as engines do."""
    options = dataclasses.replace(
        side_options, entry="show", output_schema=Schema.parse("word string"), env=blocked(tmp_path)
    )
    dofn = RunShard(options, None, stamp=False)
    dofn.setup()
    try:
        for word in (b"first", b"second"):
            outputs = dofn.process((options.shard_keys[0], []), GlobalWindow(), side_chunks=sides_of(word))
            assert [row.word for row in outputs] == [word.decode()]
    finally:
        dofn.teardown()
