"""Time of `write_batch` in the script: encoding in bulk beside Examples built in a loop, from one run.

Options of the command line in. Microseconds per row and ratios on standard output out, for outputs of several shapes.
The loop is a script's way without this package. `--json FILE` writes the same figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from beam_tfscript.data.schema import Schema
from beam_tfscript.runtime.columns import columns_from_wire
from beam_tfscript.runtime.writing.encode import ExampleEncoder

_REPEATS = 5


def make_cases(rows: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Make typical output schemas, each with a batch of rows.

    Args:
      rows: rows per batch.

    Returns:
      A dict, label -> (schema text, batch).
    """
    random = np.random.default_rng(0)
    ids = np.array([f"row-{index}".encode() for index in range(rows)], object)
    scores = random.random(rows, np.float32)
    wide = {f"f{index}": random.random(rows, np.float32) for index in range(300)}
    counts = {f"k{index}": random.integers(0, 100_000, rows) for index in range(30)}
    lengths = random.integers(0, 20, rows)
    return {
        "string id, float score": ("id string, score float", {"id": ids, "score": scores}),
        "the same, Python lists": ("id string, score float", {"id": ids.tolist(), "score": scores.tolist()}),
        "one float": ("score float", {"score": scores}),
        "30 integers": (", ".join(f"{name} bigint" for name in counts), counts),
        "300 floats": (", ".join(f"{name} float" for name in wide), wide),
        "vector of 1,024 floats": ("x vector(1024)", {"x": random.random((rows, 1024), np.float32)}),
        "arrays of 0 to 19 floats": (
            "x array<float>",
            {"x": [random.random(length, np.float32) for length in lengths]},
        ),
    }


def encode_in_loop(schema: Schema, batch: dict[str, Any]) -> list[bytes]:
    """Build one `tf.train.Example` per row, and serialize it.

    Args:
      schema: names and kinds of the columns.
      batch: name of a column -> its values.

    Returns:
      The serialized Examples.
    """
    import tensorflow as tf

    kinds = [(column.name, column.feature + "_list", column.is_scalar) for column in schema]
    records = []
    for row in zip(*(batch[column.name] for column in schema)):
        example = tf.train.Example()
        features = example.features.feature
        for (name, kind, is_scalar), value in zip(kinds, row):
            values = getattr(features[name], kind).value
            if is_scalar:
                values.append(value)
            else:
                values.extend(value)
        records.append(example.SerializeToString())
    return records


def best_us(function: Callable[[], Any], *, rows: int, repeats: int) -> float:
    """Return the shortest time of several calls, in microseconds per row."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best / rows * 1e6


def measure(label: str, text: str, batch: dict[str, Any], rows: int) -> dict[str, Any]:
    """Measure one case both ways, after a check that both make the same Examples."""
    import tensorflow as tf

    schema = Schema.parse(text)
    encoder = ExampleEncoder(columns_from_wire(schema.to_wire()))
    parse = tf.train.Example.FromString
    for bulk, loop in zip(encoder.encode_batch(batch), encode_in_loop(schema, batch)):
        # For a column without values, the one way makes an empty list, the other no list.
        features = parse(bulk).features.feature
        assert all(features[name] == value for name, value in parse(loop).features.feature.items() if value.ByteSize())
    bulk_us = best_us(lambda: encoder.encode_batch(batch), rows=rows, repeats=_REPEATS)
    loop_us = best_us(lambda: encode_in_loop(schema, batch), rows=rows, repeats=2)
    return {"case": label, "bulk_us": bulk_us, "loop_us": loop_us, "ratio": loop_us / bulk_us}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1024, help="rows per batch")
    parser.add_argument("--json", metavar="FILE", help="file to write the figures to")
    options = parser.parse_args(arguments)
    print(f"microseconds per row, batches of {options.rows} rows")
    print(f"{'':26}{'write_batch':>12}{'loop':>10}{'ratio':>8}")
    figures = []
    for label, (text, batch) in make_cases(options.rows).items():
        figure = measure(label, text, batch, options.rows)
        figures.append(figure)
        print(f"{label:26}{figure['bulk_us']:12.2f}{figure['loop_us']:10.2f}{figure['ratio']:7.1f}x")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
