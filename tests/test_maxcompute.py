"""Tables of MaxCompute, read and written by pyodps from a server of these tests (tests/servers/maxcompute.py)."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from decimal import Decimal

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript import ReadFromMaxCompute, RunTFScript, WriteToMaxCompute
from beam_tfscript.cli.main import main
from beam_tfscript.errors import ArgumentError, SchemaError
from beam_tfscript.tables import client
from tests.running import Runner, script
from tests.servers.maxcompute import ACCESS_KEY, PROJECT, maxcompute
from tests.test_cli_check import ECHO
from tests.without_tensorflow import blocked

pytest.importorskip("odps", reason="needs pyodps")

IN_MEMORY = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
PEOPLE = "id string, age bigint, x array<float>"
APIS = ("storage", "tunnel")


@pytest.fixture
def service(monkeypatch):
    """Server whose address and credentials are in the environment; it must have understood every request."""
    for name in list(os.environ):
        if name.startswith(("ODPS_", "ALIBABA_CLOUD_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(client, "BACKOFF_S", 0.01)
    with maxcompute() as state:
        for name, value in state.variables().items():
            monkeypatch.setenv(name, value)
        yield state
        assert not state.unknown


@pytest.fixture
def bundle_based(tmp_path):
    """Runner on the engine that tries a failed bundle again."""
    return Runner("bundle_based", tmp_path)


def people(start, count):
    """Return rows."""
    return [{"id": f"p{n}", "age": n, "x": [float(n)] * (n % 3)} for n in range(start, start + count)]


def add_people(service, *, days=3, rows_per_day=10):
    """Add a table with a partition per day."""
    rows = {f"pt={day}": people(day * rows_per_day, rows_per_day) for day in range(days)}
    return service.add_table("people", PEOPLE, "pt string", rows)


def read(runner, transform, *more):
    """Run a pipeline that reads; return the elements, rows as dicts."""
    found = runner.run(beam.Map(lambda element: element), None, before=lambda p: _chain(p | transform, *more))
    rows = []
    for element in found:
        rows += element.to_pylist() if isinstance(element, pa.RecordBatch) else [element]
    return sorted(rows, key=str)


def _chain(rows, *transforms):
    for transform in transforms:
        rows = rows | transform
    return rows


def write(runner, rows, transform):
    """Run a pipeline that writes rows; return the commit."""
    (commit,) = runner.run(transform, rows)
    return commit


def sorted_rows(rows):
    """Return rows in an order that does not depend on that of their writing."""
    return sorted(rows, key=str)


# Reading


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("form", ["row", "dict", "record_batch"])
def test_splits_together_have_each_row_once(service, in_memory, api, form):
    table = add_people(service)
    transform = ReadFromMaxCompute(PROJECT, "people", rows_per_split=4, output_as=form, api=api)
    assert str(transform.schema) == f"{PEOPLE}, pt string"
    assert read(in_memory, transform) == sorted_rows(table.all_rows())
    asked = service.requests("GET", "/data?" if api == "storage" else "rowrange")
    # Splits of the Storage API cross partitions; a session of the tunnel has one partition.
    assert len(asked) == (8 if api == "storage" else 9)


def test_only_the_columns_that_are_asked_for_are_sent(service, in_memory):
    add_people(service)
    rows = read(in_memory, ReadFromMaxCompute(PROJECT, "people", columns=["pt", "age"]))
    assert rows == sorted_rows({"pt": str(n // 10), "age": n} for n in range(30))
    assert service.sent_columns == {("age", "pt")}


def test_columns_are_pruned_in_the_tunnel_too(service, in_memory):
    add_people(service)
    read(in_memory, ReadFromMaxCompute(PROJECT, "people", columns=["pt", "age"], api="tunnel"))
    assert service.sent_columns == {("age",)}


@pytest.mark.parametrize(
    ("partitions", "days"),
    [
        ("pt=1/region=cn", ["1/cn"]),
        ("pt=1", ["1/cn", "1/eu"]),
        (["pt=0/region=eu", {"pt": 2, "region": "cn"}], ["0/eu", "2/cn"]),
        ("pt>=1,region=eu", ["1/eu", "2/eu"]),
        (None, ["0/cn", "0/eu", "1/cn", "1/eu", "2/cn", "2/eu"]),
    ],
)
@pytest.mark.parametrize("api", APIS)
def test_partitions_are_chosen_by_value_prefix_and_range(service, in_memory, partitions, days, api):
    rows = {f"pt={day}/region={region}": [{"n": day}] for day in range(3) for region in ("cn", "eu")}
    service.add_table("days", "n bigint", "pt string, region string", rows)
    found = read(in_memory, ReadFromMaxCompute(PROJECT, "days", partitions, api=api))
    assert sorted(f"{row['pt']}/{row['region']}" for row in found) == days
    assert all(str(row["n"]) == row["pt"] for row in found)


def test_filter_is_applied_by_the_service(service, in_memory):
    add_people(service)
    rows = read(in_memory, ReadFromMaxCompute(PROJECT, "people", columns=["age"], filter="age > 7"))
    assert sorted(row["age"] for row in rows) == list(range(8, 30))


@pytest.mark.parametrize("api", APIS)
def test_table_without_rows_gives_none(service, in_memory, api):
    service.add_table("empty", "id string")
    service.add_table("no_days", "id string", "pt string", {})
    assert read(in_memory, ReadFromMaxCompute(PROJECT, "empty", api=api)) == []
    assert read(in_memory, ReadFromMaxCompute(PROJECT, "no_days", api=api)) == []


def test_uri_names_table_and_partition(service, in_memory):
    add_people(service)
    rows = read(in_memory, ReadFromMaxCompute.from_uri(f"odps://{PROJECT}/tables/people/pt=2", columns=["age"]))
    assert sorted(row["age"] for row in rows) == list(range(20, 30))


# Types

TYPES = {
    "tinyint": ("tinyint", [-128, 127]),
    "smallint": ("smallint", [-32768, 32767]),
    "int": ("int", [-(2**31), 2**31 - 1]),
    "bigint": ("bigint", [-(2**63), 2**63 - 1]),
    "float": ("float", [1.5, float("inf")]),
    "double": ("double", [0.1, -1e300]),
    "boolean": ("boolean", [True, False]),
    "string": ("string", ["", "größe 数据"]),
    "varchar(5)": ("varchar(5)", ["abcde", ""]),
    "char(4)": ("varchar(4)", ["abcd", "a"]),
    "binary": ("varbinary", [b"", b"\0\xff"]),
    "date": ("date", [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    "decimal(38,18)": ("decimal(38, 18)", [Decimal("-12345678901234567890.123456789012345678"), Decimal("0E-18")]),
    "decimal": ("decimal(54, 18)", [Decimal("1.5"), Decimal("-2")]),
    "json": ("string", ['{"a": [1, null]}', "3"]),
    "array<bigint>": ("array<bigint>", [[1, 2], []]),
    "array<array<string>>": ("array<array<string>>", [[["a"], []], []]),
    "array<decimal(5,2)>": ("array<decimal(5, 2)>", [[Decimal("1.25")], []]),
}
TIMES = {
    "datetime": ("timestamp(ms)", dt.datetime(2024, 2, 29, 12, 0, 0, 123000)),
    "timestamp": ("timestamp(ns)", dt.datetime(2024, 2, 29, 12, 0, 0, 123456)),
    "timestamp_ntz": ("timestamp(ns)", dt.datetime(1969, 12, 31, 23, 59, 59, 999999)),
    "array<timestamp>": ("array<timestamp(ns)>", [dt.datetime(2024, 2, 29, 12, 0, 0, 123456)]),
}
AS_JSON = {
    "map<string,bigint>": ['{"a": 1, "b": null}', "{}"],
    "map<bigint,array<double>>": ['{"1": [0.5]}', "{}"],
    "struct<a:int,b:struct<c:string,d:date>>": [
        '{"a": 1, "b": {"c": "x", "d": "2024-02-29"}}',
        '{"a": null, "b": null}',
    ],
    "array<map<string,decimal(5,1)>>": ['[{"k": "1.5"}, {}]', "[]"],
    "array<array<array<int>>>": ["[[[1, 2], []], []]", "[]"],
    "struct<b:binary,t:timestamp>": ['{"b": "AP8=", "t": "2024-02-29T12:00:00.123456"}', '{"b": "", "t": null}'],
}


@pytest.mark.parametrize("api", APIS)
def test_every_type_is_written_and_read_back(service, in_memory, api):
    # pyodps's reader of the tunnel knows no JSON.
    kinds = [kind for kind in TYPES if api != "tunnel" or kind != "json"]
    columns = {f"c{n}": kind for n, kind in enumerate(kinds)}
    service.add_table("all_types", ", ".join(f"{name} {kind}" for name, kind in columns.items()))
    rows = [{name: TYPES[kind][1][n] for name, kind in columns.items()} for n in range(2)]
    rows.append(dict.fromkeys(columns))
    schema = ", ".join(f"{name} {TYPES[kind][0]}" for name, kind in columns.items())
    assert write(in_memory, rows, WriteToMaxCompute(PROJECT, "all_types", schema=schema, api=api))["rows"] == 3
    transform = ReadFromMaxCompute(PROJECT, "all_types", output_as="dict", api=api)
    assert str(transform.schema) == schema
    assert read(in_memory, transform) == sorted_rows(rows)


@pytest.mark.parametrize("api", APIS)
def test_times_are_utc_wherever_the_worker_is(service, in_memory, api, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        columns = {f"c{n}": kind for n, kind in enumerate(TIMES)}
        table = service.add_table("times", ", ".join(f"{name} {kind}" for name, kind in columns.items()))
        row = {name: TIMES[kind][1] for name, kind in columns.items()}
        schema = ", ".join(f"{name} {TIMES[kind][0]}" for name, kind in columns.items())
        write(in_memory, [row], WriteToMaxCompute(PROJECT, "times", schema=schema, api=api))
        (stored,) = table.all_rows()
        assert _naive(stored) == row
        transform = ReadFromMaxCompute(PROJECT, "times", output_as="record_batch", api=api)
        assert str(transform.schema) == schema
        (found,) = read(in_memory, transform)
        assert _naive(found) == row
    finally:
        monkeypatch.undo()
        time.tzset()


def _naive(value):
    if isinstance(value, dict):
        return {name: _naive(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_naive(each) for each in value]
    return dt.datetime.fromisoformat(value.isoformat()[:26]).replace(tzinfo=None)


def test_maps_structs_and_deep_arrays_are_json_text_both_ways(service, in_memory):
    columns = {f"c{n}": kind for n, kind in enumerate(AS_JSON)}
    table = service.add_table("nested", ", ".join(f"{name} {kind}" for name, kind in columns.items()))
    rows = [{name: AS_JSON[kind][n] for name, kind in columns.items()} for n in range(2)] + [dict.fromkeys(columns)]
    schema = ", ".join(f"{name} string" for name in columns)
    write(in_memory, rows, WriteToMaxCompute(PROJECT, "nested", schema=schema))
    assert table.all_rows()[0]["c0"] == [("a", 1), ("b", None)] or len(table.all_rows()) == 3
    found = read(in_memory, ReadFromMaxCompute(PROJECT, "nested", as_json=list(columns), output_as="dict"))
    assert found == sorted_rows(rows)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": "x"}', '{"a": {}}'])
def test_text_that_is_no_value_of_a_map_is_an_error(service, in_memory, text):
    service.add_table("nested", "m map<string,bigint>")
    with pytest.raises(Exception, match="Column 'm' does not fit the table's type map<string,bigint>"):
        write(in_memory, [{"m": text}], WriteToMaxCompute(PROJECT, "nested", schema="m string"))


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("map<string,bigint>", "name the column in as_json"),
        ("struct<a:int>", "name the column in as_json"),
        ("array<array<array<int>>>", "name the column in as_json"),
        ("interval_day_time", "CAST it to a string"),
        ("map<string,interval_year_month>", "CAST it to a string"),
    ],
)
def test_type_without_a_counterpart_is_named_while_the_pipeline_is_built(service, kind, shown):
    service.add_table("odd", f"id string, c {kind}")
    with pytest.raises(SchemaError, match=rf"table shop.odd: Column 'c' has the MaxCompute type .*{shown}"):
        ReadFromMaxCompute(PROJECT, "odd")
    assert str(ReadFromMaxCompute(PROJECT, "odd", columns=["id"]).schema) == "id string"


def test_schema_may_name_other_types_than_the_table(service, in_memory):
    service.add_table("images", "x array<array<double>>", rows=[{"x": [[1.0, 2.0], [3.0, 4.0]]}])
    (row,) = read(in_memory, ReadFromMaxCompute(PROJECT, "images", schema="x tensor<float>(2, 2)"))
    assert (row["x"].shape, str(row["x"].dtype)) == ((2, 2), "float32")


# Writing


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("form", ["row", "dict", "record_batch"])
def test_rows_of_any_form_are_written_once(service, in_memory, api, form):
    table = service.add_table("out", PEOPLE, rows=people(0, 1))
    rows = people(1, 40)
    if form == "row":
        elements = [beam.Row(**row) for row in rows]
    else:
        arrow = pa.schema([("id", pa.string()), ("age", pa.int64()), ("x", pa.list_(pa.float32()))])
        elements = rows if form == "dict" else [pa.RecordBatch.from_pylist(rows[at : at + 7], arrow)
                                                for at in range(0, 40, 7)]  # fmt: skip
    transform = WriteToMaxCompute(PROJECT, "out", num_shards=3, schema=PEOPLE, api=api)
    commit = write(in_memory, elements, transform)
    assert (commit["table"], commit["rows"]) == (f"odps://{PROJECT}/tables/out", 40)
    assert sorted_rows(table.all_rows()) == sorted_rows(people(0, 41))
    assert len(service.requests("POST", "/commit?")) == (api == "storage")


@pytest.mark.parametrize("api", APIS)
def test_partition_is_created_and_overwritten(service, in_memory, api):
    table = service.add_table("out", "n bigint", "pt string, region string", {"pt=1/region=cn": [{"n": 0}]})
    for mode, partition in (
        ("append", "pt=1/region=cn"),
        ("overwrite", "pt=1/region=cn"),
        ("append", {"pt": 2, "region": "eu"}),
    ):
        write(in_memory, [{"n": 5}], WriteToMaxCompute(PROJECT, "out", partition, mode, schema="n bigint", api=api))
        if mode == "append" and partition == "pt=1/region=cn":
            assert table.rows["pt=1/region=cn"].to_pylist() == [{"n": 0}, {"n": 5}]
    assert {name: rows.to_pylist() for name, rows in table.rows.items()} == {
        "pt=1/region=cn": [{"n": 5}], "pt=2/region=eu": [{"n": 5}],
    }  # fmt: skip


def test_overwrite_with_no_rows_empties_the_table(service, in_memory):
    table = service.add_table("out", "n bigint", rows=[{"n": 1}])
    commit = write(in_memory, [], WriteToMaxCompute(PROJECT, "out", mode="overwrite", schema="n bigint"))
    assert (commit["rows"], table.all_rows()) == (0, [])


def test_rows_name_their_partitions(service, in_memory):
    table = service.add_table("out", "n bigint", "day bigint, region string", {})
    rows = [{"n": n, "day": n % 2, "region": "cn" if n < 5 else "eu"} for n in range(10)]
    write(in_memory, rows, WriteToMaxCompute(PROJECT, "out", schema="n bigint, day bigint, region string"))
    assert {name: sorted(row["n"] for row in part.to_pylist()) for name, part in table.rows.items()} == {
        "day=0/region=cn": [0, 2, 4], "day=1/region=cn": [1, 3],
        "day=1/region=eu": [5, 7, 9], "day=0/region=eu": [6, 8],
    }  # fmt: skip


def test_table_is_created_from_the_schema(service, in_memory):
    schema = (
        "id string not null, a uint8, b decimal(20, 4), c timestamp, d timestamp(ms), e array<float>, f varbinary, "
        "g varchar(7), h char(3), i tensor<float>(2, 2), j float64, k date, `select` boolean"
    )
    transform = WriteToMaxCompute(PROJECT, "made", "pt=1", schema=schema, create=True, lifecycle=7)
    row = {"id": "a", **dict.fromkeys("abcdefghijk"), "select": True}
    assert write(in_memory, [row], transform)["rows"] == 1
    table = service.tables["made"]
    assert dict(table.columns) == {
        "id": "string", "a": "smallint", "b": "decimal(20,4)", "c": "timestamp", "d": "datetime", "e": "array<float>",
        "f": "binary", "g": "varchar(7)", "h": "char(3)", "i": "array<array<float>>", "j": "double", "k": "date",
        "select": "boolean",
    }  # fmt: skip
    assert (table.required, table.partition_columns) == ({"id"}, [("pt", "string")])
    # It exists now.
    assert write(in_memory, [row], transform)["rows"] == 1
    assert len(table.all_rows()) == 2


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ("t time", "MaxCompute has no type for a time of day"),
        ("d decimal(40, 2)", "at most 38 digits"),
        ("d decimal(30, 20)", "18 of them after the point"),
    ],
)
def test_type_that_a_new_table_cannot_have_is_named_while_the_pipeline_is_built(service, schema, shown):
    with pytest.raises(SchemaError, match=shown), beam.Pipeline() as pipeline:
        pipeline | beam.Create([{}]) | WriteToMaxCompute(PROJECT, "made", schema=schema, create=True)
    assert "made" not in service.tables


def test_rows_of_windows_are_written_with_all_others(service, in_memory):
    table = service.add_table("out", "n bigint")

    def in_windows(rows):
        return rows | beam.Map(lambda n: TimestampedValue({"n": n}, n)) | beam.WindowInto(FixedWindows(2))

    write = WriteToMaxCompute(PROJECT, "out", schema="n bigint")
    in_memory.run(write, range(9), before=in_windows)
    assert sorted(row["n"] for row in table.all_rows()) == list(range(9))


def test_input_without_an_end_is_refused(service):
    service.add_table("out", "n bigint")
    with pytest.raises(ArgumentError, match="this input never ends"), beam.Pipeline() as pipeline:
        pipeline | TestStream().advance_watermark_to_infinity() | WriteToMaxCompute(PROJECT, "out", schema="n bigint")


def test_many_blocks_of_one_shard_are_committed_together(service, in_memory, monkeypatch):
    monkeypatch.setattr("beam_tfscript.tables.write_target._BLOCK_BYTES", 1)
    table = service.add_table("out", "n bigint")
    batches = [pa.RecordBatch.from_pydict({"n": [2 * n, 2 * n + 1]}) for n in range(5)]
    commit = write(in_memory, batches, WriteToMaxCompute(PROJECT, "out", num_shards=2, schema="n bigint"))
    assert (commit["rows"], commit["blocks"]) == (10, 5)
    assert sorted(row["n"] for row in table.all_rows()) == list(range(10))


# Faults


class Fault:
    """Fails requests whose method and path fit, each by a status, "cut", or None for no fault."""

    def __init__(self, method, part, *answers):
        self._method, self._part, self._answers = method, part, list(answers)
        self.met = 0

    def __call__(self, method, path, query):
        if method != self._method or self._part not in path or not self._answers:
            return None
        self.met += 1
        return self._answers.pop(0)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("answers", [(503,), ("cut",), (None, 503, "cut", 500), (None, "cut", "cut", "cut")])
def test_rows_come_once_whatever_fails_in_the_middle(service, in_memory, monkeypatch, api, answers):
    monkeypatch.setattr("odps.tunnel.retry.ExponentialWaitRetryPolicy.get_retry_wait_time", lambda *_: 0.01)
    monkeypatch.setattr("beam_tfscript.tables.storage_api._BATCH_ROWS", 3)
    table = add_people(service)
    fault = Fault("GET", "/data?" if api == "storage" else "rowrange", *answers)
    service.faults.append(fault)
    rows = read(in_memory, ReadFromMaxCompute(PROJECT, "people", rows_per_split=10, api=api))
    assert fault.met == len(answers)
    assert rows == sorted_rows(table.all_rows())


def test_answer_that_breaks_off_is_continued_where_it_broke(service, in_memory, monkeypatch):
    monkeypatch.setattr("beam_tfscript.tables.storage_api._BATCH_ROWS", 1)
    service.add_table("wide", "n bigint, t string", rows=[{"n": n, "t": str(n) * 20_000} for n in range(8)])
    service.faults.append(Fault("GET", "/data?", "cut"))
    rows = read(in_memory, ReadFromMaxCompute(PROJECT, "wide", columns=["n", "t"]))
    assert sorted(row["n"] for row in rows) == list(range(8))
    _, second = service.requests("GET", "/data?")
    assert "row_index=0" not in second


def test_filtered_split_that_breaks_off_is_read_anew(service, in_memory, monkeypatch):
    monkeypatch.setattr("beam_tfscript.tables.storage_api._BATCH_ROWS", 2)
    add_people(service)
    service.faults.append(Fault("GET", "/data?", "cut", None, 503))
    rows = read(in_memory, ReadFromMaxCompute(PROJECT, "people", columns=["age"], filter="age > 7"))
    assert sorted(row["age"] for row in rows) == list(range(8, 30))


def test_service_that_stays_away_is_an_error_in_the_end(service, in_memory):
    add_people(service)
    transform = ReadFromMaxCompute(PROJECT, "people")
    service.faults.append(lambda method, path, query: 503 if "/data?" in path else None)
    with pytest.raises(Exception, match=r"The table odps://shop/tables/people cannot be read: .*trouble"):
        read(in_memory, transform)
    assert len(service.requests("GET", "/data?")) >= client.ATTEMPTS


@pytest.mark.parametrize("api", APIS)
def test_block_whose_upload_fails_is_written_once(service, in_memory, api):
    table = service.add_table("out", PEOPLE)
    fault = Fault(*(("POST", "block_number") if api == "storage" else ("PUT", "blockid")), 503, "cut", None, 500)
    service.faults.append(fault)
    write(in_memory, people(0, 30), WriteToMaxCompute(PROJECT, "out", num_shards=2, schema=PEOPLE, api=api))
    assert fault.met >= 3
    assert sorted_rows(table.all_rows()) == sorted_rows(people(0, 30))


@pytest.mark.parametrize("api", APIS)
def test_bundle_that_is_tried_again_adds_no_row_twice(service, bundle_based, api, monkeypatch):
    """The first attempts write a block, and fail at a later one, which the service refuses for good."""
    table = service.add_table("out", PEOPLE)
    monkeypatch.setattr("beam_tfscript.tables.write_target._BLOCK_BYTES", 1)
    batches = [pa.RecordBatch.from_pylist(people(10 * n, 10), schema=table.arrow) for n in range(4)]
    is_block = ("POST", "block_number") if api == "storage" else ("PUT", "blockid")
    fault = Fault(*is_block, *((None, None, 400, None, 400) if api == "storage" else (400, None)))
    service.faults.append(fault)
    service.faults.append(Fault(*is_block, *(("cut",) if api == "tunnel" else ())))
    transform = WriteToMaxCompute(PROJECT, "out", num_shards=1, schema=PEOPLE, api=api)
    assert write(bundle_based, batches, transform)["rows"] == 40
    assert sorted_rows(table.all_rows()) == sorted_rows(people(0, 40))
    if api == "storage":
        assert len(service.requests("POST", "block_number")) > 4


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("answer", ["cut", 503])
def test_commit_whose_answer_is_lost_is_not_repeated(service, in_memory, api, answer):
    table = service.add_table("out", PEOPLE)
    fault = Fault("POST", "/commit?" if api == "storage" else "?uploadid", answer)
    service.faults.append(fault)
    write(in_memory, people(0, 5), WriteToMaxCompute(PROJECT, "out", schema=PEOPLE, api=api))
    assert fault.met == 1
    assert sorted_rows(table.all_rows()) == people(0, 5)


def test_commit_that_is_refused_writes_nothing(service, in_memory):
    table = service.add_table("out", PEOPLE)
    service.faults.append(lambda method, path, query: 400 if "/commit?" in path else None)
    with pytest.raises(Exception, match="The table odps://shop/tables/out cannot be committed"):
        write(in_memory, people(0, 5), WriteToMaxCompute(PROJECT, "out", schema=PEOPLE))
    assert table.all_rows() == []


WRITES = """
import apache_beam as beam
from beam_tfscript import WriteToMaxCompute

if __name__ == "__main__":
    with beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipeline:
        rows = pipeline | beam.Create([{"n": n} for n in range(10)])
        rows | WriteToMaxCompute("shop", "out", schema="n bigint", num_shards=2)
"""


def test_worker_that_dies_before_the_commit_leaves_no_row(service, tmp_path):
    table = service.add_table("out", "n bigint")
    (tmp_path / "writes.py").write_text(WRITES)
    workers = []

    def start():
        workers.append(subprocess.Popen([sys.executable, str(tmp_path / "writes.py")], stderr=subprocess.DEVNULL))
        return workers[-1].wait(120)

    def kill(method, path, query):
        if "/commit?" in path and len(workers) == 1:
            workers[0].send_signal(signal.SIGKILL)
            return 503
        return None

    service.faults.append(kill)
    assert start() == -signal.SIGKILL
    # Its blocks are there, and are of a session that nobody commits.
    assert service.requests("POST", "block_number") and table.all_rows() == []
    assert start() == 0
    assert sorted(row["n"] for row in table.all_rows()) == list(range(10))


def test_tunnel_is_used_where_the_project_has_no_storage_api(service, in_memory, caplog):
    service.has_storage_api = False
    table = add_people(service)
    out = service.add_table("out", PEOPLE)
    assert read(in_memory, ReadFromMaxCompute(PROJECT, "people")) == sorted_rows(table.all_rows())
    assert "the tunnel is used instead" in caplog.text
    write(in_memory, people(0, 3), WriteToMaxCompute(PROJECT, "out", schema=PEOPLE))
    assert sorted_rows(out.all_rows()) == people(0, 3)
    with pytest.raises(Exception, match="the tunnel has no filters"):
        read(in_memory, ReadFromMaxCompute(PROJECT, "people", filter="age > 7"))
    with pytest.raises(Exception, match="the account of the environment may not do this"):
        read(in_memory, ReadFromMaxCompute(PROJECT, "people", api="storage"))


# Mistakes, while the pipeline is built


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"table": "peple"}, "There is no table shop.peple"),
        ({"project": "shp"}, "no project shp"),
        ({"columns": ["id", "ag"]}, "has no column 'ag'.*'age'"),
        ({"partitions": "pt=9"}, "has no partition 'pt=9'"),
        ({"partitions": "day=1"}, "Invalid partition field 'day'.*The partition columns of shop.people are pt"),
        ({"partitions": []}, "partitions is an empty list"),
        ({"columns": "id"}, "columns must be a list of names"),
        ({"columns": ["id"], "schema": "id string"}, "both name the columns"),
        ({"schema": "id string, ag bigint"}, "has no column 'ag'"),
        ({"output_as": "rows"}, "output_as must be one of 'row', 'dict', 'record_batch'"),
        ({"api": "rest"}, "api must be one of 'auto', 'storage', 'tunnel'"),
        ({"api": "tunnel", "filter": "age > 1"}, "the tunnel has no filters"),
        ({"rows_per_split": 0}, "rows_per_split must be a positive integer"),
        ({"table": "a/b"}, r"table must be a name, got 'a/b'"),
    ],
)
def test_mistake_in_a_read_is_found_while_the_pipeline_is_built(service, arguments, shown):
    add_people(service)
    with pytest.raises(ArgumentError, match=shown):
        ReadFromMaxCompute(**{"project": PROJECT, "table": "people", **arguments})


@pytest.mark.parametrize(
    ("arguments", "schema", "shown"),
    [
        ({"table": "ot"}, "n bigint", "There is no table shop.ot"),
        ({}, "n bigint", "partition column 'pt', for which there is no value: give partition='pt=…'"),
        ({"partition": "day=1"}, "n bigint", "no partition column 'day': its partition columns are pt"),
        ({"partition": "pt"}, "n bigint", "partition: 'pt' is not a partition"),
        ({"partition": "pt=1"}, "n bigint, pt string", "have the column 'pt', which partition names too"),
        ({"partition": "pt=1"}, "n bigint, m bigint", "has no column 'm'"),
        ({"partition": "pt=1"}, "m2 bigint", "has no column 'm2'"),
        ({"partition": "pt=1"}, "t string", "lack the column 'n', which is NOT NULL"),
        ({"partition": "pt=1"}, "n string", "do not fit the table shop.out: .*'n' has the type"),
        ({"partition": "pt=1", "mode": "replace"}, "n bigint", "mode must be one of 'append', 'overwrite'"),
        ({"partition": "pt=1", "num_shards": 0}, "n bigint", "num_shards"),
        ({"partition": "pt=1", "lifecycle": 3}, "n bigint", "are for create=True"),
        ({"partition": "pt=1"}, None, "The columns of the rows are not known"),
    ],
)
def test_mistake_in_a_write_is_found_while_the_pipeline_is_built(service, arguments, schema, shown):
    service.add_table("out", "n bigint not null, t string", "pt string", {})
    pipeline = beam.Pipeline()
    with pytest.raises(ArgumentError, match=shown):
        transform = WriteToMaxCompute(**{"project": PROJECT, "table": "out", "schema": schema, **arguments})
        pipeline | beam.Create([{}]) | transform


@pytest.mark.parametrize("uri", ["odps://shop/people", "odps:///tables/t", "odps://shop/tables/", "people",
                                 "odps://shop/schemas/tables/t", "odps://shop/tables/people/1"])  # fmt: skip
def test_what_is_no_address_of_a_table_says_so(service, uri):
    with pytest.raises(ArgumentError, match="is not the address of a table|is not a partition"):
        ReadFromMaxCompute.from_uri(uri)


# Credentials


@pytest.mark.parametrize("name", ["ODPS_ACCESS_ID", "ODPS_ACCESS_KEY"])
def test_wrong_credentials_are_refused_while_the_pipeline_is_built_and_not_shown(service, monkeypatch, name):
    add_people(service)
    monkeypatch.setenv(name, "wrong-and-secret")
    with pytest.raises(ArgumentError, match="refuses the credentials of the environment") as caught:
        ReadFromMaxCompute(PROJECT, "people")
    assert "wrong-and-secret" not in str(caught.value) and caught.value.__cause__ is None


def test_without_credentials_the_error_names_the_variables(service, monkeypatch):
    table = add_people(service)
    out = service.add_table("out", PEOPLE)
    monkeypatch.delenv("ODPS_ACCESS_KEY")
    with pytest.raises(ArgumentError, match="no credentials .*: set ODPS_ENDPOINT, and ODPS_ACCESS_ID"):
        ReadFromMaxCompute(PROJECT, "people")
    # With a schema, the pipeline is built where there are none; the workers have them.
    reading = ReadFromMaxCompute(PROJECT, "people", schema=PEOPLE, output_as="record_batch")
    pipeline = beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    _ = pipeline | reading | WriteToMaxCompute(PROJECT, "out")
    monkeypatch.setenv("ODPS_ACCESS_KEY", ACCESS_KEY)
    pipeline.run().wait_until_finish()
    assert len(out.all_rows()) == len(table.all_rows()) == 30


def test_other_sources_of_credentials(service, monkeypatch, tmp_path):
    add_people(service)
    variables = {name: os.environ[name] for name in ("ODPS_ACCESS_ID", "ODPS_ACCESS_KEY", "ODPS_ENDPOINT")}
    for name in variables:
        monkeypatch.delenv(name)
    (tmp_path / "odps.conf").write_text(
        f"access_id={variables['ODPS_ACCESS_ID']}\naccess_key={variables['ODPS_ACCESS_KEY']}\n"
        f"end_point={variables['ODPS_ENDPOINT']}\n"
    )
    monkeypatch.setenv("ODPS_CONFIG_FILE_PATH", str(tmp_path / "odps.conf"))
    assert ReadFromMaxCompute(PROJECT, "people").schema
    monkeypatch.setenv("ODPS_CONFIG_FILE_PATH", str(tmp_path / "absent"))
    with pytest.raises(ArgumentError, match="ODPS_CONFIG_FILE_PATH names cannot be read"):
        ReadFromMaxCompute(PROJECT, "people")
    monkeypatch.delenv("ODPS_CONFIG_FILE_PATH")
    monkeypatch.setenv("ODPS_ENDPOINT", variables["ODPS_ENDPOINT"])
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", variables["ODPS_ACCESS_ID"])
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", variables["ODPS_ACCESS_KEY"])
    assert ReadFromMaxCompute(PROJECT, "people").schema
    monkeypatch.setenv("ALIBABA_CLOUD_SECURITY_TOKEN", "token-of-an-hour")
    assert ReadFromMaxCompute(PROJECT, "people").schema
    assert service.tokens == {"token-of-an-hour"}
    # Requests to an endpoint of a region are signed in another way.
    monkeypatch.setenv("ODPS_REGION_NAME", "cn-hangzhou")
    assert ReadFromMaxCompute(PROJECT, "people").schema


def test_credentials_are_nowhere_in_the_job(service, in_memory, caplog):
    add_people(service)
    service.add_table("out", PEOPLE)
    caplog.set_level(logging.DEBUG)
    reading = ReadFromMaxCompute(PROJECT, "people", columns=["id", "age", "x"])
    writing = WriteToMaxCompute(PROJECT, "out")
    pipeline = beam.Pipeline()
    _ = pipeline | reading | writing
    graph = pipeline.to_runner_api().SerializeToString()
    shown = json.dumps([reading.display_data(), writing.display_data()])
    for text in (graph, pickle.dumps(reading.reading), pickle.dumps(writing._target), shown.encode()):
        assert ACCESS_KEY.encode() not in text and b"access-id" not in text
    assert json.loads(shown) == [
        {"table": "odps://shop/tables/people", "partitions": "all", "columns": PEOPLE},
        {"table": "odps://shop/tables/out", "mode": "append"},
    ]
    again = ReadFromMaxCompute(PROJECT, "people", columns=["id", "age", "x"])
    in_memory.run(WriteToMaxCompute(PROJECT, "out"), None, before=lambda pipeline: pipeline | again)
    assert ACCESS_KEY not in caplog.text and "Authorization" not in caplog.text


def test_without_pyodps_the_error_names_the_extra(service, monkeypatch):
    add_people(service)
    monkeypatch.setitem(sys.modules, "odps", None)
    with pytest.raises(ArgumentError, match=r"pip install 'beam-tfscript\[maxcompute\]'"):
        ReadFromMaxCompute(PROJECT, "people")


# With scripts


def test_script_between_two_tables(service, runner):
    add_people(service)
    out = service.add_table("scores", "id string, age bigint", "pt string", {})
    copy = RunTFScript(script("tables.py"), "id string, age bigint", entry="copy", feed="bundles")
    rows = ReadFromMaxCompute(PROJECT, "people", "pt=1", ["id", "age"], output_as="record_batch", rows_per_split=3)
    write = WriteToMaxCompute(PROJECT, "scores", "pt=1")
    (commit,) = runner.run(write, None, before=lambda pipeline: pipeline | rows | copy)
    assert commit["rows"] == 10
    assert sorted_rows(out.all_rows()) == [{"id": f"p{n}", "age": n, "pt": "1"} for n in range(10, 20)]


def test_batches_of_a_script_keep_their_columns_in_the_next_transform(service, in_memory):
    out = service.add_table("scores", "id string, age bigint")
    columns = "id string, age bigint"
    first, second = (
        RunTFScript(script("tables.py"), columns, entry="copy", feed="bundles", output_as="record_batch", **known)
        for known in ({"input_schema": columns}, {})
    )
    rows = [{"id": "a", "age": 4}]
    write = WriteToMaxCompute(PROJECT, "scores")
    in_memory.run(write, rows, before=lambda rows: rows | "First" >> first | "Second" >> second)
    assert out.all_rows() == rows


@pytest.fixture
def command(tmp_path):
    """Flags of a command that runs a script without TensorFlow."""
    (tmp_path / "echo.py").write_text(ECHO)
    return str(tmp_path / "echo.py"), [f"--env={name}={value}" for name, value in blocked(tmp_path).items()]


def test_command_line_reads_and_writes_tables(service, command, capsys):
    add_people(service)
    out = service.add_table("scores", PEOPLE, "pt string", {"pt=9": people(0, 3)})
    path, variables = command
    flags = ["run", path, IN_MEMORY, *variables, "--input", f"odps://{PROJECT}/tables/people/pt=1"]
    flags += ["--selected-cols", "id,age,x", "--output-schema", PEOPLE]
    output = f"--output=odps://{PROJECT}/tables/scores/pt=9"
    assert main([*flags, output]) == 0
    assert "10 rows read, 10 written" in capsys.readouterr().out
    assert len(out.all_rows()) == 13
    assert main([*flags, output, "--table-mode=overwrite"]) == 0
    assert sorted_rows(out.rows["pt=9"].to_pylist()) == sorted_rows(people(10, 10))


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        (["--output=scores"], "The input is a table, so the format of the output is not known"),
        (["--output=scores", "--format=jsonl", "--table-mode=append"], "The table mode append is for a table"),
        (["--output=odps://shop/tables/scores", "--format=csv"], "is a table, which has no file format"),
        (["--output=odps://shop/tables/absent"], "There is no table shop.absent"),
    ],
)
def test_flags_that_do_not_go_with_tables_are_refused(service, command, capsys, more, shown):
    add_people(service)
    path, variables = command
    flags = [
        "run",
        path,
        IN_MEMORY,
        *variables,
        "--input",
        f"odps://{PROJECT}/tables/people",
        "--output-schema",
        PEOPLE,
    ]
    assert main([*flags, *more]) == 2
    assert shown in capsys.readouterr().err


def test_check_shows_rows_of_a_table(service, command, capsys):
    add_people(service)
    path, variables = command
    flags = ["check", path, *variables, "--data", f"odps://{PROJECT}/tables/people", "--rows=7"]
    assert main([*flags, "--output-schema", f"{PEOPLE}, pt string"]) == 0
    out = capsys.readouterr().out
    assert f"Columns:\n  {PEOPLE}, pt string" in out
    assert "Rows read:    7" in out and "Rows written: 7" in out
    assert main([*flags[:-2], f"odps://{PROJECT}/tables/absent"]) == 2
