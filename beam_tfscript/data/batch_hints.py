"""Type hints of PCollections of Arrow batches whose columns are known while the pipeline is built.

`pyarrow.RecordBatch` itself tells no columns. A hint is a subclass of it, of which there are no instances: Beam takes
the batches for such ones, and a transform of this package finds the columns.
"""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa

from beam_tfscript.data.schema import Schema

__all__ = ["batch_hint", "columns_of_batches"]


class _KnownBatches(pa.RecordBatch):
    """Base class of the hints."""

    schema_text = ""


@functools.lru_cache(maxsize=256)
def batch_hint(schema: Schema) -> type:
    """Return the type hint of a PCollection of `pyarrow.RecordBatch`es with the columns of a schema."""
    return type("RecordBatch", (_KnownBatches,), {"schema_text": str(schema), "__module__": __name__})


def columns_of_batches(element_type: Any) -> Schema | None:
    """Return the columns that a type hint tells; None for any other type."""
    if isinstance(element_type, type) and issubclass(element_type, _KnownBatches):
        return Schema.parse(element_type.schema_text)
    return None
