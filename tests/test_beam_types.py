"""Beam's element types to schemas, schemas to row classes, and rows in a real pipeline."""

from __future__ import annotations

import dataclasses
import datetime as dt
import keyword
import pickle
import subprocess
import sys
import typing
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.coders import typecoders
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.typehints import schemas as beam_schemas
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_tfscript.data.rows import rows_to_record_batch
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.beam_types import beam_rows, beam_timestamps, row_class, row_hint, schema_of
from beam_tfscript.errors import SchemaError
from tests.strategies import canonical, schemas_and_rows

FIELD_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: "__" not in name and not keyword.iskeyword(name)
)


class Everything(NamedTuple):
    a: str
    b: int | None  # Beam itself takes this spelling for Any
    c: float
    d: typing.List[float]  # noqa: UP006
    e: typing.Tuple[int, ...]  # noqa: UP006
    f: Sequence[Sequence[np.int8]]
    g: bool
    h: bytes
    i: Timestamp
    j: dt.date
    k: Iterable[np.float32]


@dataclasses.dataclass
class Record:
    id: str
    x: typing.Optional[np.float32]  # noqa: UP045


@dataclasses.dataclass(frozen=True)
class FrozenRecord:
    id: str
    n: np.int16


Plain = NamedTuple("Plain", [("id", str), ("y", typing.List[float])])  # noqa: UP006, UP014
Odd = NamedTuple("Odd", [("id", str), ("m", typing.Dict[str, int]), ("p", Decimal), ("q", Any)])  # noqa: UP006, UP014


@pytest.mark.parametrize(
    ("element_type", "text"),
    [
        (Plain, "id string not null, y array<double> not null"),
        (Record, "id string not null, x float"),
        (FrozenRecord, "id string not null, n smallint not null"),
    ],
)
def test_finds_the_schema_of_a_class(element_type, text):
    assert str(schema_of(element_type)) == text


def test_finds_the_schema_of_postponed_annotations():
    text = (
        "a string not null, b bigint, c double not null, d array<double> not null, e array<bigint> not null,"
        " f array<array<tinyint>> not null, g boolean not null, h varbinary not null, i timestamp not null,"
        " j date not null, k array<float> not null"
    )
    assert str(schema_of(Everything)) == text


def test_finds_the_schema_of_inferred_rows():
    rows = beam.Pipeline() | beam.Create([1]) | beam.Map(lambda n: beam.Row(id="a", n=n, x=np.float32(0.5)))
    assert str(schema_of(rows.element_type)) == "id string not null, n bigint not null, x float not null"


@pytest.mark.parametrize("element_type", [dict, typing.Dict[str, int], bytes, Any, str, tuple, None])  # noqa: UP006
def test_other_elements_have_no_schema(element_type):
    assert schema_of(element_type) is None


@pytest.mark.parametrize("name", ["m", "p", "q"])
def test_rejects_a_field_of_an_unknown_type_only_if_it_is_selected(name):
    assert str(schema_of(Odd, columns=["id"])) == "id string not null"
    with pytest.raises(SchemaError, match=f"Column '{name}' has the Beam type .* which no column type stands for"):
        schema_of(Odd, columns=[name])
    with pytest.raises(SchemaError, match="no column 'iid'. Did you mean 'id'"):
        schema_of(Odd, columns=["iid"])


@given(schemas_and_rows(max_columns=8, max_rows=4, names=FIELD_NAMES))
@settings(max_examples=50)
def test_schemas_and_rows_survive_beam(case):
    schema, rows = case
    assert schema_of(row_hint(schema)) == schema == schema_of(row_class(schema))
    made = list(beam_rows(rows_to_record_batch(rows, schema), schema))
    coder = typecoders.registry.get_coder(row_hint(schema))
    copies = [coder.decode(coder.encode(row)) for row in made]
    for found in (made, pickle.loads(pickle.dumps(made)), copies):
        assert len(found) == len(rows)
        for row, copy in zip(rows, found):
            for column, value in zip(schema, copy):
                assert canonical(_listed(value), column) == canonical(row[column.name], column)


def _listed(value):
    """Return a list for a sequence: Beam makes lists or tuples of sequences."""
    return list(value) if isinstance(value, (list, tuple)) else value


OUTPUT = Schema.parse("id string not null, score float, tags array<string>, at timestamp, image tensor<float>(2, 2)")
ROWS = [
    {"id": "a", "score": 0.5, "tags": ["x", "y"], "at": Timestamp(3), "image": np.eye(2)},
    {"id": "b", "score": None, "tags": None, "at": None, "image": None},
    {"id": "a", "score": 1.5, "tags": [], "at": Timestamp(1), "image": np.zeros((2, 2))},
]


def make_rows(_):
    return list(beam_rows(rows_to_record_batch(ROWS, OUTPUT), OUTPUT))


def test_rows_are_of_the_class_that_the_type_hint_has():
    rows = make_rows(None)
    assert {type(row) for row in rows} == {row_class(OUTPUT)} == {row_hint(OUTPUT).user_type}
    assert rows[0]._fields == OUTPUT.names and rows[0].at == Timestamp(3)
    assert isinstance(rows[0].image, np.ndarray)


def test_rows_go_through_a_pipeline():
    with beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipeline:
        rows = pipeline | beam.Create([0]) | beam.FlatMap(make_rows).with_output_types(row_hint(OUTPUT))
        shuffled = (
            rows | beam.Reshuffle() | beam.Map(lambda row: (row.id, row.score, row.tags and list(row.tags), row.at))
        )
        expected = [(row["id"], row["score"], row["tags"], row["at"]) for row in ROWS]
        assert_that(shuffled, equal_to(expected), label="shuffled")
        images = (
            rows | "again" >> beam.Reshuffle() | beam.Map(lambda row: None if row.image is None else row.image.sum())
        )
        assert_that(images, equal_to([2.0, None, 0.0]), label="images")
        selected = rows | beam.Select("id", "score")
        assert str(schema_of(selected.element_type)) == "id string not null, score float"
        best = (
            rows
            | beam.Filter(lambda row: row.score is not None)
            | beam.GroupBy("id").aggregate_field("score", max, "best")
            | beam.Map(tuple)
        )
        assert_that(best, equal_to([("a", 1.5)]), label="best")


def test_other_languages_can_read_the_schema():
    proto = beam_schemas.schema_from_element_type(row_hint(Schema.parse("a int, b array<float> not null, c timestamp")))
    fields = [(field.name, field.type.nullable, field.type.WhichOneof("type_info")) for field in proto.fields]
    assert fields == [("a", True, "atomic_type"), ("b", False, "array_type"), ("c", True, "logical_type")]


def test_the_class_is_the_same_in_every_process():
    code = "from tests.test_beam_types import *; import sys; sys.stdout.buffer.write(pickle.dumps(make_rows(0)))"
    pickled = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE).stdout
    assert {type(row) for row in pickle.loads(pickled)} == {row_class(OUTPUT)}


@pytest.mark.parametrize("name", ["class", "_x", "`a b`"])
def test_rejects_names_that_rows_cannot_have(name):
    with pytest.raises(SchemaError, match="must be Python identifiers"):
        row_class(Schema.parse(f"{name} int"))


def test_timestamps_keep_their_unit():
    assert beam_timestamps([None, 1, -1], "ms") == [None, Timestamp(0.001), Timestamp(-0.001)]
    assert beam_timestamps([1], "s") == [Timestamp(1)]
    assert beam_timestamps([2**62 + 1], "ns")[0].nanos == 2**62 + 1
