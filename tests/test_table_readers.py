"""Readers and writers of tables that scripts call themselves: `common_io` and `paiio`."""

from __future__ import annotations

import os
import pathlib

import apache_beam as beam
import pytest

from beam_tfscript import RunTFScript
from tests.running import script
from tests.servers.maxcompute import PROJECT
from tests.test_maxcompute import add_people, people, service  # noqa: F401 - a fixture
from tests.without_tensorflow import BLOCKED, LEAN

odps = pytest.importorskip("odps", reason="needs pyodps")

COLUMNS = "id string, age bigint, slice int"
TABLE = f"odps://{PROJECT}/tables/people"
# The directory with pyodps, which is found in a script's own environment.
SITE = str(pathlib.Path(odps.__file__).parents[1])


def run_of(entry, *, path=BLOCKED, table=TABLE, **arguments):
    """The transform with an entry of the tables' script; its process finds pyodps."""
    arguments.setdefault("user_params", {"table": table})
    env = {"PYTHONPATH": os.pathsep.join((path, SITE))}
    return RunTFScript(script("tables.py"), arguments.pop("output", COLUMNS), entry=entry, env=env, **arguments)


def by_id(rows):
    """Return rows in the order of their ids."""
    return sorted(rows, key=lambda row: str(row["id"]))


def test_workers_read_slices_that_are_the_table_together(service, in_memory):  # noqa: F811
    rows = [*people(0, 22), {"id": None, "age": None, "x": None}]
    service.add_table("people", "id string, age bigint, x array<float>", rows=rows)
    found = in_memory.run(run_of("read_slices", num_workers=3))
    assert by_id({**row, "slice": 0} for row in found) == by_id(
        {"id": row["id"], "age": row["age"], "slice": 0} for row in rows
    )
    assert sorted(sum(row["slice"] == n for row in found) for n in range(3)) == [7, 8, 8]
    assert in_memory.metrics["counted"] == 23
    assert service.sent_columns == {("id", "age")}


def test_reader_goes_on_where_it_is_told_to(service, in_memory):  # noqa: F811
    add_people(service)
    found = in_memory.run(run_of("read_slices", user_params={"table": TABLE + "/pt=1", "seek": 6}))
    assert by_id(found) == [{"id": f"p{n}", "age": n, "slice": 0} for n in range(16, 20)]


def test_writer_appends_to_a_table_and_to_the_output(service, in_memory):  # noqa: F811
    out = service.add_table("people", "id string, age bigint, x array<float>", rows=people(0, 1))
    found = in_memory.run(run_of("write_table", num_workers=2, output="id string, age bigint"))
    assert by_id(found) == by_id([{"id": "x", "age": 1}, {"id": "y", "age": None}] * 2)
    written = by_id(out.all_rows())
    assert written[:2] == [{"id": "a", "age": 0, "x": [1.5]}, {"id": "a", "age": 1, "x": [1.5]}]
    assert written[2:6] == [{"id": "b", "age": None, "x": []}] * 2 + [{"id": "c", "age": 7, "x": None}] * 2
    assert written[6:] == people(0, 1)


def test_mistakes_of_a_script_are_explained(service, in_memory):  # noqa: F811
    add_people(service)
    found = [row["id"] for row in in_memory.run(run_of("mistakes"))]
    for shown in (
        "has no column 'idd'; its columns are id, age, x",
        "pt=9 cannot be read: ",
        "must name one partition of the table, by pt=…",
        "absent cannot be looked up: ",
        "'people' is not the address of a table",
        "slice_id must be 0 to slice_count - 1, got slice_id=2, slice_count=2",
        "feed:// needs to know the columns",
        "there is no side input 'side'",
    ):
        assert any(shown in text for text in found), (shown, found)


def test_script_without_credentials_is_told_which_variables_to_set(service, in_memory, monkeypatch):  # noqa: F811
    add_people(service)
    monkeypatch.delenv("ODPS_ACCESS_KEY")
    with pytest.raises(Exception, match="no credentials for MaxCompute in the environment: set ODPS_ENDPOINT"):
        in_memory.run(run_of("read_slices"))


@pytest.mark.tensorflow
@pytest.mark.parametrize("feed", ["dataset", "bundles"])
def test_feed_gives_the_runs_rows(service, in_memory, feed):  # noqa: F811
    rows = [*people(0, 9), {"id": "null", "age": None, "x": None}]
    transform = RunTFScript(
        script("tables.py"), COLUMNS, entry="read_feed", feed=feed, input_schema="id string, age bigint, x array<float>"
    )
    found = in_memory.run(transform, rows)
    assert by_id(found) == by_id({"id": row["id"], "age": row["age"], "slice": 0} for row in rows)


@pytest.mark.tensorflow
def test_feed_gives_the_rows_of_a_side_input(service, in_memory):  # noqa: F811
    def run(rows):
        side = rows.pipeline | "Side" >> beam.Create([{"id": "s", "age": 5}])
        return rows | RunTFScript(
            script("tables.py"), COLUMNS, entry="read_feed", input_schema="id string, age bigint, x array<float>",
            side_inputs={"side": (side, "id string, age bigint")},
        )  # fmt: skip

    found = in_memory.run(beam.Map(lambda row: row), people(0, 2), before=run)
    assert by_id(found)[-1] == {"id": "s", "age": 5, "slice": 1}


@pytest.mark.tensorflow
def test_dataset_has_a_tables_rows_in_slices(service, in_memory):  # noqa: F811
    rows = [*people(0, 10), {"id": None, "age": None, "x": None}]
    service.add_table("people", "id string, age bigint, x array<float>", rows=rows)
    found = in_memory.run(run_of("read_dataset", path=LEAN, num_workers=2))
    wanted = [{"id": row["id"] or "none", "age": -1 if row["age"] is None else row["age"]} for row in rows]
    assert by_id({"id": row["id"], "age": row["age"]} for row in found) == by_id(wanted)
    assert {row["slice"] for row in found} == {0, 1}
