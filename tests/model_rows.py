"""Models from their rows, as `ModelRowsToSavedModel` makes them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

from beam_tfscript.models.model_rows import join_rows, unpack


def rows_to_model(rows: Iterable[tuple[int, str]], directory: str) -> str:
    """Write the SavedModel of its rows to a directory, and return the model's name."""
    with tempfile.TemporaryFile() as packed:
        name, _ = join_rows(rows, packed)
        unpack(packed, directory)
    return name
