"""Rows to Example bytes and back: this project, `tf.train.Example` in Python, and tfx-bsl, side by side in one run.

Options of the command line in: the number of values per conversion, and the number of rounds. Out: a table on standard
output, and with `--json FILE` the same figures as JSON. Contenders take turns, and the best round of each counts. So
other work on the machine affects all of them alike.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder

from beam_tfscript.data.examples import ExampleDecoder, ExampleEncoder
from beam_tfscript.data.rows import record_batch_to_tuples, rows_to_record_batch
from beam_tfscript.data.schema import Schema

ROUNDS = 7
# Values per batch of rows: about as many as a chunk of 1 to 4 MiB holds.
VALUES = 100_000
MIN_ROWS, MAX_ROWS = 256, 4096
TENSOR_FLOATS = 1024

Way = Callable[[], Sequence[Any]]


@dataclass(frozen=True)
class Case:
    """Rows of one shape; `target` is the wanted speed-up over Python of rows to bytes."""

    name: str
    schema: Schema
    rows: list[dict[str, Any]]
    target: float


@dataclass(frozen=True)
class Figure:
    """Time of one way of one step, in microseconds per row."""

    case: str
    step: str
    way: str
    micros: float


@dataclass(frozen=True)
class Verdict:
    """Ratio of this project to a peer, with its target; `target` is None for a ratio without one."""

    case: str
    name: str
    ratio: float
    target: float | None
    at_most: bool

    def __str__(self) -> str:
        text = f"{self.case:>12}  {self.name:<52} {self.ratio:6.2f}x"
        if self.target is None:
            return text
        met = self.ratio <= self.target if self.at_most else self.ratio >= self.target
        wanted = f"at {'most' if self.at_most else 'least'} {self.target:g}x"
        return f"{text}   target: {wanted}, {'met' if met else 'MISSED'}"


def make_cases(values: int) -> list[Case]:
    """Return rows of 3, 30 and 300 columns, and of one tensor."""
    cases = []
    for columns, target in ((3, 1.5), (30, 1.5), (300, 4.0)):
        kinds = ("string", "float", "bigint")
        schema = Schema.parse(", ".join(f"c{n} {kinds[n % 3]}" for n in range(columns)))
        count = _row_count(values, columns)
        cases.append(Case(f"{columns} columns", schema, [_row(columns) for _ in range(count)], target))
    schema = Schema.parse(f"x tensor<float>({TENSOR_FLOATS})")
    tensors = np.random.default_rng(0).random((_row_count(values, 100), TENSOR_FLOATS), np.float32)
    cases.append(Case(f"{TENSOR_FLOATS} floats", schema, [{"x": tensor} for tensor in tensors], 4.0))
    return cases


def _row_count(values: int, columns: int) -> int:
    return max(MIN_ROWS, min(MAX_ROWS, values // columns))


def _row(columns: int) -> dict[str, Any]:
    makers = (lambda: f"id-{random.randrange(10**6)}", random.random, lambda: random.randrange(10**6))
    return {f"c{n}": makers[n % 3]() for n in range(columns)}


def encode_in_python(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    """Build one message per row, as TensorFlow's tutorials do."""
    from tensorflow.core.example.example_pb2 import Example
    from tensorflow.core.example.feature_pb2 import BytesList, Feature, Features, FloatList, Int64List

    def feature(value: Any) -> Any:
        if isinstance(value, str):
            return Feature(bytes_list=BytesList(value=[value.encode()]))
        if isinstance(value, float):
            return Feature(float_list=FloatList(value=[value]))
        if isinstance(value, int):
            return Feature(int64_list=Int64List(value=[value]))
        return Feature(float_list=FloatList(value=value))

    return [
        Example(features=Features(feature={name: feature(value) for name, value in row.items()})).SerializeToString()
        for row in rows
    ]


def encode_in_place(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    """Fill in one message per row: not the usual way in Python, but the fastest."""
    from tensorflow.core.example.example_pb2 import Example

    examples = []
    for row in rows:
        example = Example()
        feature = example.features.feature
        for name, value in row.items():
            if isinstance(value, str):
                feature[name].bytes_list.value.append(value.encode())
            elif isinstance(value, float):
                feature[name].float_list.value.append(value)
            elif isinstance(value, int):
                feature[name].int64_list.value.append(value)
            else:
                feature[name].float_list.value.extend(value.tolist())
        examples.append(example.SerializeToString())
    return examples


def decode_in_python(examples: Sequence[bytes], schema: Schema) -> list[tuple]:
    """Parse one message per row, and take the values out."""
    from tensorflow.core.example.example_pb2 import Example

    rows = []
    for serialized in examples:
        features = Example.FromString(serialized).features.feature
        values = []
        for column in schema:
            feature = features[column.name]
            if column.is_tensor:
                values.append(np.array(feature.float_list.value, np.float32))
            elif column.kind == "string":
                values.append(feature.bytes_list.value[0].decode())
            elif column.kind == "float":
                values.append(feature.float_list.value[0])
            else:
                values.append(feature.int64_list.value[0])
        rows.append(tuple(values))
    return rows


def ready_lists(batch: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    """Return the batch in the form that tfx-bsl takes without a conversion."""
    arrays = []
    for array, column in zip(batch.columns, schema):
        size = TENSOR_FLOATS if column.is_tensor else 1
        flat = array.flatten() if column.is_tensor else array
        flat = flat.cast(pa.large_binary()) if column.kind == "string" else flat
        arrays.append(pa.LargeListArray.from_arrays(np.arange(len(array) + 1) * size, flat))
    return pa.RecordBatch.from_arrays(arrays, names=list(schema.names))


def ways_of(case: Case) -> dict[str, dict[str, Way]]:
    """Return the ways of each step, by step and name; all ways of a step have the same result."""
    encoder, decoder = ExampleEncoder(case.schema), ExampleDecoder(case.schema)
    batch = rows_to_record_batch(case.rows, case.schema)
    examples = encoder.encode(batch)
    lists = ready_lists(batch, case.schema)
    tfx_encoder, tfx_decoder = RecordBatchToExamplesEncoder(), ExamplesToRecordBatchDecoder()
    return {
        "rows -> bytes": {
            "python": lambda: encode_in_python(case.rows),
            "in place": lambda: encode_in_place(case.rows),
            "this": lambda: encoder.encode_rows(case.rows),
        },
        "batch -> bytes": {
            "tfx-bsl": lambda: tfx_encoder.encode(lists),
            "this": lambda: encoder.encode(batch),
        },
        "bytes -> rows": {
            "python": lambda: decode_in_python(examples, case.schema),
            "this": lambda: record_batch_to_tuples(decoder.decode(examples), case.schema),
        },
        "bytes -> batch": {
            "tfx-bsl": lambda: tfx_decoder.DecodeBatch(examples),
            "this": lambda: decoder.decode(examples),
        },
    }


def check(case: Case, steps: dict[str, dict[str, Way]]) -> None:
    """Check that the ways of a step have the same result."""
    decoder = ExampleDecoder(case.schema)
    batches = [
        decoder.decode(list(way())) for step in ("rows -> bytes", "batch -> bytes") for way in steps[step].values()
    ]
    if not all(batch.equals(batches[0]) for batch in batches):
        raise SystemExit(f"{case.name}: the ways do not encode the same Examples")
    rows = [way() for way in steps["bytes -> rows"].values()]
    if not all(np.array_equal(a, b) for pair in zip(*rows) for a, b in zip(*pair)):
        raise SystemExit(f"{case.name}: the ways do not decode the same rows")


def measure(case: Case, rounds: int) -> list[Figure]:
    """Return the best time of each way; the ways take turns."""
    steps = ways_of(case)
    check(case, steps)
    best: dict[tuple[str, str], float] = {}
    for _ in range(rounds):
        for step, ways in steps.items():
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                seconds = time.perf_counter() - start
                best[step, name] = min(seconds, best.get((step, name), seconds))
    return [Figure(case.name, step, name, best[step, name] / len(case.rows) * 1e6) for step, name in best]


def judge(case: Case, figures: Sequence[Figure]) -> list[Verdict]:
    """Compare this project with its peers."""
    micros = {(figure.step, figure.way): figure.micros for figure in figures}

    def faster(step: str, way: str = "python") -> float:
        return micros[step, way] / micros[step, "this"]

    def slower(step: str) -> float:
        return micros[step, "this"] / micros[step, "tfx-bsl"]

    return [
        Verdict(
            case.name,
            "rows -> bytes, as fast as Python's tf.train.Example",
            faster("rows -> bytes"),
            case.target,
            False,
        ),
        Verdict(
            case.name,
            "rows -> bytes, as fast as filling messages in place",
            faster("rows -> bytes", "in place"),
            None,
            False,
        ),
        Verdict(case.name, "bytes -> rows, as fast as Python's tf.train.Example", faster("bytes -> rows"), None, False),
        Verdict(case.name, "batch -> bytes, time of tfx-bsl alone", slower("batch -> bytes"), 1.2, True),
        Verdict(case.name, "bytes -> batch, time of tfx-bsl alone", slower("bytes -> batch"), None, True),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, default=VALUES, help="values per conversion (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds; the best one counts (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="file to write the figures to")
    options = parser.parse_args(arguments)
    random.seed(0)
    figures, verdicts = [], []
    print(f"{'rows of':>12}  {'step':<16}{'by':<10}{'us / row':>10}{'rows / s':>16}")
    for case in make_cases(options.values):
        measured = measure(case, options.rounds)
        for figure in measured:
            rate = f"{1e6 / figure.micros:,.0f}"
            print(f"{figure.case:>12}  {figure.step:<16}{figure.way:<10}{figure.micros:>10.2f}{rate:>16}")
        figures += measured
        verdicts += judge(case, measured)
    print()
    for verdict in verdicts:
        print(verdict)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"figures": list(map(asdict, figures)), "verdicts": list(map(asdict, verdicts))}, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1:])
