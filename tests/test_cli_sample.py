"""Samples of files on the command line: their format, their columns, their rows."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from beam_tfscript.cli import sample as samples
from beam_tfscript.cli.formats import format_of
from beam_tfscript.cli.sample import take_sample
from beam_tfscript.cli.show import table
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError, RowError, SchemaError
from tests.cli_files import make_rows, write_rows


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.tfrecord", "tfrecord"),
        ("s3://bucket/rows-*.tfrecords.gz", "tfrecord"),
        ("ROWS.CSV", "csv"),
        ("x.json.bz2", "jsonl"),
        ("x.ndjson", "jsonl"),
        ("part-*.parquet*", "parquet"),
    ],
)
def test_format_is_told_by_the_name(name, expected):
    assert format_of(name, None) == expected
    assert format_of(name, "csv") == "csv"


def test_secrets_of_a_uri_are_not_shown():
    with pytest.raises(ArgumentError, match="--input-format") as caught:
        format_of("oss://bucket/rows?access_key_id=a&access_key_secret=hush", None)
    assert "hush" not in str(caught.value)


def test_features_of_examples_become_columns(tmp_path):
    schema = "n bigint, x float, t string, b varbinary, v tensor<float>(3), a array<bigint>, r array<array<float>>"
    rows = [
        {"n": i, "x": 0.5, "t": "é", "b": b"\xff", "v": [1.0, 2.0, 3.0], "a": [1] * i, "r": [[1.0], [2.0] * i]}
        for i in range(1, 5)
    ]
    found = take_sample(write_rows(tmp_path / "x.tfrecord", rows, schema), "tfrecord", None, rows=2)
    expected = "a array<bigint>, b varbinary, n bigint, r array<array<float>>, t string, v tensor<float>(3), x float"
    assert (str(found.schema), len(found.rows), found.notes) == (expected, 2, [])


def test_missing_features_do_not_make_a_tensor(tmp_path):
    rows = [{"v": [1.0, 2.0], "x": None, "w": None} for _ in range(3)] + [{"v": None, "x": 1.0, "w": None}]
    found = take_sample(
        write_rows(tmp_path / "x.tfrecord", rows, "v array<float>, x float, w float"), "tfrecord", None, rows=9
    )
    assert str(found.schema) == "v array<float>, x float"
    assert found.notes == ["w has no value in the first rows, and is left out."]


def test_records_that_are_no_examples_are_passed_on(tmp_path):
    from beam_tfscript.data import tfrecord

    (tmp_path / "x.tfrecord").write_bytes(tfrecord.frame([b"\xff\xff no message"]))
    found = take_sample(str(tmp_path / "x.tfrecord"), "tfrecord", None, rows=5)
    assert found.schema is None and "not tf.train.Examples" in found.notes[0]


def test_records_larger_than_a_block_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("beam_tfscript.data.tfrecord_blocks.READ_BYTES", 64)
    found = take_sample(write_rows(tmp_path / "x.tfrecord.gz"), "tfrecord", None, rows=30)
    assert len(found.rows) == 30


def test_file_that_is_cut_short_is_an_error(tmp_path):
    path = write_rows(tmp_path / "x.tfrecord")
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(RowError, match="cut short"):
        take_sample(path, "tfrecord", None, rows=30)


def test_columns_of_arrow_without_a_counterpart_are_left_out(tmp_path):
    arrow = pa.table({"id": ["a"], "nested": [{"x": 1}], "nothing": pa.nulls(1)})
    pyarrow.parquet.write_table(arrow, tmp_path / "x.parquet")
    found = take_sample(str(tmp_path / "x.parquet"), "parquet", None, rows=5)
    assert str(found.schema) == "id string, nothing string"
    assert [note.split()[0] for note in found.notes] == ["nested", "nothing"]


def test_dates_and_arrays_of_json_take_the_types_that_are_given(tmp_path):
    row = {"d": "2024-01-31", "at": "2024-01-31T12:00:00Z", "v": [1, 2], "r": [[1], []], "ds": ["2024-01-31"], "n": 5}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n\n" + '{"d": null}\n')
    schema = Schema.parse("d date, at timestamp, v tensor<float>(2), r array<array<float>>, ds array<date>, n tinyint")
    found = take_sample(str(tmp_path / "x.jsonl"), "jsonl", schema, rows=5)
    from beam_tfscript.data.align import align_record_batch

    first, second = align_record_batch(found.rows, schema).to_pylist()
    assert str(first["d"]) == "2024-01-31" and first["at"].hour == 12
    assert (first["v"], first["r"], first["n"]) == ([1.0, 2.0], [[1.0], []], 5) and str(first["ds"][0]) == "2024-01-31"
    assert set(second.values()) == {None}


def test_json_that_is_broken_is_an_error(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"id": 1}\n{"id"\n')
    with pytest.raises(RowError, match=r"x\.jsonl"):
        take_sample(str(tmp_path / "x.jsonl"), "jsonl", None, rows=5)


def test_csv_keeps_line_breaks_and_texts_that_look_like_numbers(tmp_path):
    (tmp_path / "x.csv").write_text('zip,text,when\n01234,"two\nlines",2024-01-31 12:00:00\n')
    found = take_sample(str(tmp_path / "x.csv"), "csv", Schema.parse("zip string, text string, when timestamp"), rows=5)
    assert found.rows.to_pylist()[0]["zip"] == "01234" and found.rows.to_pylist()[0]["text"] == "two\nlines"


def test_csv_has_no_arrays(tmp_path):
    with pytest.raises(SchemaError, match="CSV has no arrays"):
        take_sample(write_rows(tmp_path / "x.csv"), "csv", Schema.parse("x array<float>"), rows=5)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_column_that_the_file_does_not_have_is_named(tmp_path, name):
    with pytest.raises(SchemaError, match="'absent'"):
        take_sample(write_rows(tmp_path / name), format_of(name, None), Schema.parse("id string, absent float"), rows=5)


def test_first_file_of_a_pattern_is_taken(tmp_path):
    for name in ("b.csv", "a.csv"):
        write_rows(tmp_path / name)
    assert take_sample(str(tmp_path / "*.csv"), "csv", None, rows=1).path == str(tmp_path / "a.csv")


@pytest.mark.parametrize("text", ["", "id,x\n"])
def test_file_without_rows_is_refused(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises((ArgumentError, RowError), match=r"no rows|[Ee]mpty"):
        take_sample(str(tmp_path / "x.csv"), "csv", None, rows=5)


def test_guess_looks_at_more_rows_than_are_run(tmp_path):
    rows = [{"x": 1}] * 50 + [{"x": 1.5}]
    assert len(rows) < samples.GUESS_ROWS
    found = take_sample(write_rows(tmp_path / "x.jsonl", rows), "jsonl", None, rows=3)
    assert (str(found.schema), len(found.rows)) == ("x double", 3)


def test_table_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = table(["id", "text", "v"], [[row["id"], "long " * 30, list(range(100))] for row in make_rows(7)])
    assert max(map(len, text.splitlines())) <= 60
    assert text.endswith("… and 2 more") and "0, 1, 2" in text


@pytest.mark.parametrize("name", ["x.csv.gz", "x.tfrecord.gz", "x.parquet", "x.jsonl"])
def test_file_that_is_not_what_its_name_says_is_an_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00\x01 neither of these \xff\n" * 9)
    with pytest.raises(RowError, match=name):
        take_sample(str(tmp_path / name), format_of(name, None), None, rows=5)
