"""Transform whose script joins rows to a side input."""

from __future__ import annotations

import apache_beam as beam

from beam_tfscript import RunTFScript
from tests.running import script

ROWS = [{"id": str(i), "x": float(i)} for i in range(20)]
WORDS = [beam.Row(id=str(i), word=f"word {i}") for i in range(20)]


class Join(beam.PTransform):
    """Joins the rows to words by side input."""

    def __init__(self, **arguments):
        super().__init__()
        self._arguments = arguments

    def expand(self, rows):
        words = rows.pipeline | "Words" >> beam.Create(WORDS)
        return rows | RunTFScript(
            script("sides.py"), "id string, word string", input_schema="id string, x float", entry="join",
            side_inputs={"words": words}, **self._arguments,
        )  # fmt: skip


def check_joined(rows):
    """Check that each of the rows has its word."""
    assert sorted((row["id"], row["word"]) for row in rows) == sorted((word.id, word.word) for word in WORDS)
