"""Arguments about the rows: the columns, the side inputs and the form of the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beam_tfscript.data.schema import Schema
from beam_tfscript.options.arguments import checks
from beam_tfscript.options.arguments.argument import Argument, Flag, attribute, text_of
from beam_tfscript.options.arguments.masking import join

OUTPUT_FORMS = ("row", "dict", "example", "examples", "record_batch")

_GROUP = "rows"


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


OUTPUT_SCHEMA = Argument(
    "output_schema",
    str | Schema | None,
    'columns of the output, such as `"id string, score float"`; None for no output. docs/types.md lists the types.',
    default=None,
    check=checks.schema,
    field="output_schema",
    show=text_of("output_schema"),
    flag=Flag(_GROUP, "TEXT"),
)
SELECTED_COLS = Argument(
    "selected_cols",
    Sequence[str] | None,
    "names of the columns that the script is given, in that order; None for all columns.",
    default=None,
    check=checks.columns,
    field="selected_cols",
    show=lambda options: join(options.selected_cols or ()),
    flag=Flag(_GROUP, "A,B", parse=_split),
)
INPUT_SCHEMA = Argument(
    "input_schema",
    str | Schema | None,
    'columns of the input, such as `"id string, x array<float>"`; None for those of the PCollection\'s Beam schema. '
    "Dicts need it, and so do serialized Examples that the script reads parsed, as by `config.batches()`. A Beam "
    "schema is described in https://beam.apache.org/documentation/programming-guide/#schemas.",
    default=None,
    check=checks.schema,
    field="input_schema",
    show=text_of("input_schema"),
    flag=Flag(_GROUP, "TEXT", note="guessed by default"),
)
SHARD_BY = Argument(
    "shard_by",
    str | None,
    "name of a column whose equal values go to the same shard; None assigns rows to the shards in turn.",
    default=None,
    feeds=("dataset", "stream"),
    wrong_feed="Rows are not shuffled there, so there are no shards.",
    check=checks.text,
    field="shard_by",
    show=attribute("shard_by"),
)
SIDE_INPUTS = Argument(
    "side_inputs",
    Mapping[str, Any] | None,
    "dict, name -> PCollection of rows, or name -> (PCollection, schema). Each run gets all rows of the PCollection in "
    "the run's window (https://beam.apache.org/documentation/programming-guide/#side-inputs). The script reads them "
    "from the file `config.side_files[name]`, or by `config.side_dataset(name)` or `config.side_batches(name, n)`. Not "
    'in `"bundles"`, nor in `"stream"` on unbounded input.',
    default=None,
    feeds=("dataset", "stream"),
    # transforms/side_inputs.py checks it, as this room does not import Beam. The names are known from then on.
    show=lambda options: join(getattr(options, "side_schemas", ())),
)
OUTPUT_AS = Argument(
    "output_as",
    str,
    'form of the output elements: `"row"`, with a Beam schema; `"dict"`; `"example"`, a serialized '
    '`tf.train.Example`; `"examples"`, an `ExampleChunk` of many serialized Examples, for `WriteExamples`; or '
    '`"record_batch"`, a `pyarrow.RecordBatch` of several rows with the schema `output_arrow_schema`.',
    default="row",
    choices=OUTPUT_FORMS,
    field="output_as",
    show=attribute("output_as"),
)

ROWS = (OUTPUT_SCHEMA, INPUT_SCHEMA, SELECTED_COLS, SHARD_BY, SIDE_INPUTS, OUTPUT_AS)
