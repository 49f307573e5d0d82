"""The Datasets that a script is given are its TensorFlow's own, with all their methods, on every interpreter there is.

Which interpreters: those in BEAM_TFSCRIPT_TEST_PYTHONS, paths with ':' between them; by default the one that runs the
tests.
"""

from __future__ import annotations

import apache_beam as beam
import pytest

from beam_tfscript import RunTFScript
from tests.checks import PYTHONS, environment_of, name_of
from tests.running import script

pytestmark = pytest.mark.tensorflow

COLUMNS = "id bigint not null, label bigint not null"
ROWS = [{"id": number, "label": 0} for number in range(7)]


class WithSide(beam.PTransform):
    """Return the script over its input, with the same rows as a side input."""

    def __init__(self, feed, **arguments):
        super().__init__()
        self._arguments = {"feed": feed, "input_schema": COLUMNS, "max_processes": 1, "max_attempts": 1, **arguments}

    def expand(self, rows):
        arguments = dict(self._arguments)
        if arguments["feed"] != "bundles":
            side = rows.pipeline | "Side" >> beam.Create(ROWS)
            arguments["side_inputs"] = {"side": (side, COLUMNS)}
        return rows | RunTFScript(script("dataset_types.py"), "id bigint, name string", **arguments)


@pytest.mark.parametrize(
    ("feed", "reads"),
    [("dataset", ["dataset", "side parsed"]), ("stream", ["dataset", "dataset_fn", "get_dataset"])],
    ids=["dataset", "stream"],
)
@pytest.mark.parametrize("python", PYTHONS, ids=name_of)
def test_datasets_are_the_interpreters_own(in_memory, python, feed, reads):
    transform = WithSide(feed, num_workers=len(reads), user_params={"reads": reads}, python_env=environment_of(python))
    got = in_memory.run(transform, ROWS)
    assert {row["name"] for row in got} == set(reads)
    assert {row["id"] for row in got} == {row["id"] for row in ROWS}


@pytest.mark.parametrize("python", PYTHONS, ids=name_of)
def test_datasets_of_bundles_are_the_interpreters_own(in_memory, python):
    got = in_memory.run(WithSide("bundles", entry="of_bundles", python_env=environment_of(python)), ROWS)
    assert sorted(row["id"] for row in got) == [row["id"] for row in ROWS]
