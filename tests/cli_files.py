"""Files of the same thirty rows in every format that the command line reads."""

from __future__ import annotations

import gzip
import io
import json
import pathlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from beam_tfscript.data import tfrecord
from beam_tfscript.data.examples import ExampleEncoder
from beam_tfscript.data.schema import Schema

SCHEMA = "id string, x float"
NAMES = ("rows.tfrecord", "rows.tfrecord.gz", "rows.csv", "rows.csv.gz", "rows.jsonl", "rows.json.gz", "rows.parquet")


def make_rows(n: int = 30) -> list[dict[str, Any]]:
    """Rows with an id that is no number, and a number."""
    return [{"id": f"r{i}", "x": i / 2} for i in range(n)]


def write_rows(path: pathlib.Path, rows: list[dict[str, Any]] | None = None, schema: str = SCHEMA) -> str:
    """Writes rows in the format and with the compression that the name says; returns the path."""
    rows = make_rows() if rows is None else rows
    name = path.name.removesuffix(".gz")
    if name.endswith(".tfrecord"):
        data = tfrecord.frame(ExampleEncoder(Schema.parse(schema)).encode_rows(rows))
    elif name.endswith(".parquet"):
        sink = io.BytesIO()
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema=Schema.parse(schema).to_arrow()), sink)
        data = sink.getvalue()
    elif name.endswith(".csv"):
        data = "".join(
            ",".join(map(str, line)) + "\n" for line in [list(rows[0]), *(row.values() for row in rows)]
        ).encode()
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return str(path)
