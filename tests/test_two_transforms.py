"""Several transforms in a pipeline: each application is its own, and what they can share they share."""

from __future__ import annotations

import apache_beam as beam
import pytest

from beam_tfscript import RunTFScript
from tests.running import Runner, script
from tests.test_feed_bundles import names
from tests.without_tensorflow import SCHEMA, blocked, ids, run_of

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def no_tensorflow(tmp_path):
    return blocked(tmp_path)


class Both(beam.PTransform):
    """Applies two transforms to rows, one behind the other or side by side.

    Args:
      first, second: the transforms.
      in_turn: whether the second is given what the first has given.
    """

    def __init__(self, first, second, *, in_turn=False):
        super().__init__()
        self._first = first
        self._second = second
        self._in_turn = in_turn

    def expand(self, rows):
        first = rows | "First" >> self._first
        taken = first if self._in_turn else rows
        again = beam.Map(lambda row: {"id": row["id"] if isinstance(row, dict) else row.id}).with_output_types(dict)
        second = taken | "Again" >> again | "Second" >> self._second
        mark = [beam.Map(lambda row, n=n: {**row._asdict(), "from": n}) for n in (1, 2)]
        return (first | "1" >> mark[0], second | "2" >> mark[1]) | beam.Flatten()


def test_stop_of_one_application_is_not_the_others(in_memory, no_tensorflow):
    transform = run_of("stops", "bundles", env=no_tensorflow)
    rows = in_memory.run(Both(transform, transform), ids(300))
    for number in (1, 2):
        assert names(row for row in rows if row["from"] == number) == [*names(ids(16)), "stopped"]
    assert in_memory.metrics["rows_unread"] == 2 * (300 - 16)


def test_applications_of_one_object_have_schemas_of_their_own(in_memory):
    transform = RunTFScript(script("echo.py"), "id string, x float")

    class Twice(beam.PTransform):
        def expand(self, numbers):
            texts = numbers | "Text" >> beam.Map(lambda n: beam.Row(id=str(n), x=float(n)))
            longer = numbers | "More" >> beam.Map(lambda n: beam.Row(more=n, x=-float(n), id=str(n)))
            return (texts | "First" >> transform, longer | "Second" >> transform) | beam.Flatten()

    rows = in_memory.run(Twice(), range(20))
    assert sorted((row["id"], row["x"]) for row in rows) == sorted(
        (str(n), sign * float(n)) for n in range(20) for sign in (1, -1)
    )


@pytest.mark.parametrize("feed", ["bundles", "stream"])
def test_streams_of_one_object_do_not_mix(tmp_path, no_tensorflow, feed):
    transform = run_of("echo", feed, env=no_tensorflow)
    rows = Runner("in_memory", tmp_path).run(Both(transform, transform), ids(100))
    for number in (1, 2):
        assert sorted(names(row for row in rows if row["from"] == number), key=int) == names(ids(100))


def test_cluster_has_interpreters_that_nothing_else_has_run_in(in_memory, no_tensorflow):
    first = RunTFScript(script("feeds.py"), SCHEMA, entry="echo_file", input_schema="id string", env=no_tensorflow)
    cluster = RunTFScript(
        script("feeds.py"), SCHEMA, entry="echo_file", input_schema="id string", env=no_tensorflow,
        num_workers=2, placement="one_host", max_processes=3,
    )  # fmt: skip
    rows = in_memory.run(Both(first, cluster, in_turn=True), ids(50))
    pids = [{row["pid"] for row in rows if row["from"] == number} for number in (1, 2)]
    assert len(pids[0]) == 1 and len(pids[1]) == 2 and not pids[0] & pids[1]


def test_transforms_with_the_same_environment_share_an_interpreter(in_memory, no_tensorflow):
    first, second = (
        RunTFScript(
            script("feeds.py"), SCHEMA, entry=entry, input_schema="id string", env=no_tensorflow, max_processes=1
        )
        for entry in ("echo_file", "echo_file_backwards")
    )
    rows = in_memory.run(Both(first, second, in_turn=True), ids(50))
    assert len(rows) == 100
    assert len({row["pid"] for row in rows}) == 1
    assert in_memory.metrics["runs"] == 2
