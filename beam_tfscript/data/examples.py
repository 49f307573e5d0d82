"""Arrow batches to serialized Examples and back.

Input: an Arrow batch of a schema's types, or rows. Output: one serialized `tf.train.Example` per row; and from
Examples, the batch again, or an error that names the first Example and the column that do not fit. Both directions run
in the C++ of tfx-bsl, which does not load TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.cc.tfx_bsl_extension.coders import ExampleToNumpyDict
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder

from beam_tfscript.data.column import Column
from beam_tfscript.data.conversion_errors import ConversionError, find_first, find_ranges
from beam_tfscript.data.features import Rounding, array_from_features, array_to_features, find_rounded
from beam_tfscript.data.near_names import near_names
from beam_tfscript.data.rows import rows_to_record_batch
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import OutputError, RowError

__all__ = ["ExampleDecoder", "ExampleEncoder"]

_METADATA_TYPES = {"int64": schema_pb2.INT, "float": schema_pb2.FLOAT, "bytes": schema_pb2.BYTES}
_WRONG_KIND = re.compile(r'expected (\w+), found (\w+) for feature "(.*)"', re.DOTALL)
_SHOWN_FEATURES = 20
_ErrorClass = type[OutputError] | type[RowError]


class ExampleEncoder:
    """Encodes records of one schema as Examples.

    Attributes:
      schema: the records' columns.
      roundings: by name, the `double` columns whose values changed in the last batch, since an Example holds 32-bit
        floats only.
    """

    def __init__(self, schema: Schema):
        self.schema = schema
        self.roundings: dict[str, Rounding] = {}
        self._encoder = RecordBatchToExamplesEncoder()

    def encode(self, batch: pa.RecordBatch) -> list[bytes]:
        """Return one serialized Example per row of a batch.

        Args:
          batch: a batch of `schema.to_arrow()`, or a slice of one.
        """
        features: list[tuple[str, pa.Array]] = []
        self.roundings = {}
        for array, column in zip(batch.columns, self.schema):
            features += array_to_features(array, column)
            if (rounding := find_rounded(array, column)) is not None:
                self.roundings[column.name] = rounding
        names, lists = zip(*features)
        return self._encoder.encode(pa.RecordBatch.from_arrays(list(lists), list(names)))

    def encode_rows(self, rows: Sequence[Any]) -> list[bytes]:
        """Encode rows.

        Args:
          rows: as in `rows_to_record_batch`.

        Raises:
          RowError: a row does not fit the schema.
        """
        return self.encode(rows_to_record_batch(rows, self.schema))


class ExampleDecoder:
    """Decodes Examples of one schema, and checks that they fit it.

    Attributes:
      schema: the columns of the batches that come out.
    """

    def __init__(
        self, schema: Schema, *, absent: str = "error", unknown: str = "error", error: _ErrorClass = OutputError
    ):
        """Make a decoder; by default, of Examples that a script has written.

        Args:
          schema: the columns that the Examples must have.
          absent: meaning of a feature that is missing in an Example: `error`, or `null`.
          unknown: meaning of a feature that no column has: `error`, or `ignore`.
          error: class of the errors: `OutputError` or `RowError`.
        """
        self.schema = schema
        self._absent = absent
        self._unknown = unknown
        self._error = error
        self._known = frozenset(chain.from_iterable(column.features for column in schema))
        # With a schema, tfx-bsl skips other features; without one, the batch holds all of them.
        self._metadata = _metadata(schema) if unknown == "ignore" else None
        self._decoder = ExamplesToRecordBatchDecoder(self._metadata)

    @classmethod
    def for_input(cls, schema: Schema) -> ExampleDecoder:
        """Make a decoder of input Examples: a missing feature is null, and unknown features are ignored."""
        return cls(schema, absent="null", unknown="ignore", error=RowError)

    def decode(self, examples: Sequence[bytes]) -> pa.RecordBatch:
        """Decode serialized Examples.

        Args:
          examples: the Examples' bytes.

        Returns:
          A batch of `schema.to_arrow()`.

        Raises:
          OutputError: an Example does not fit the schema (`RowError` in a decoder for input).
        """
        examples = examples if isinstance(examples, list) else list(examples)
        try:
            return self._decode(examples)
        except ConversionError:
            found = find_first(len(examples), lambda start, stop: self._decode(examples[start:stop]))
            if found is None:
                raise
            raise self._error_of(*found) from found[1]

    def decode_good(self, examples: Sequence[bytes]) -> tuple[pa.RecordBatch, list[tuple[bytes, Any]]]:
        """Decode the Examples that fit.

        Args:
          examples: the Examples' bytes.

        Returns:
          The batch of the Examples that fit, in order, and the Examples that do not, each with its error.
        """
        examples = examples if isinstance(examples, list) else list(examples)
        try:
            return self._decode(examples), []
        except ConversionError:
            pass  # the search below finds the Examples that do not fit
        ranges, errors = find_ranges(len(examples), lambda start, stop: self._decode(examples[start:stop]))
        batch = self._decode([example for start, stop in ranges for example in examples[start:stop]])
        return batch, [(examples[index], self._error_of(index, error)) for index, error in errors]

    def _decode(self, examples: list[bytes]) -> pa.RecordBatch:
        if not examples:
            return rows_to_record_batch([], self.schema)
        try:
            batch = self._decoder.DecodeBatch(examples)
        except RuntimeError as error:
            # A decoder with a schema keeps the values of a failed batch, and would add the next batch's values to them.
            self._decoder = ExamplesToRecordBatchDecoder(self._metadata)
            raise _translate_error(error, self.schema) from error
        features = dict(zip(batch.schema.names, batch.columns))
        self._check_names(features, examples)
        arrays = []
        for column in self.schema:
            try:
                array = array_from_features(features, column)
                if array.null_count and self._absent == "error":
                    _check_present(examples, column, np.flatnonzero(array.is_null()), features)
            except ConversionError as error:
                raise _FeatureConversionError(str(error), column) from error
            arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema.to_arrow())

    def _check_names(self, features: dict[str, pa.Array], examples: list[bytes]) -> None:
        """Check that the Examples have all columns' features, and no others."""
        for column in self.schema:
            for name in column.features:
                if name not in features and self._absent == "error":
                    raise _FeatureConversionError(_missing(name, features), column)
                features.setdefault(name, pa.nulls(len(examples)))
        for name in features:
            if name not in self._known and self._unknown == "error":
                near = near_names(name, self.schema.names)
                raise _FeatureConversionError(f"the feature {name!r} is no column of the schema{near}", None)

    def _error_of(self, index: int, error: ConversionError) -> OutputError | RowError:
        column = getattr(error, "column", None)
        position = f"Example #{index}"
        if column is not None:
            position += f", column {column.name!r} ({column.type})"
        message = f"{position}: {error}" + ("" if str(error).endswith((".", "?")) else ".")
        return self._error(message, index=index, column=column and column.name)


class _FeatureConversionError(ConversionError):
    """Error of an Example's features; `column` is the column that they do not fit, or None."""

    # With a default, as some libraries, such as pyodps, have exceptions pickled with their causes.
    def __init__(self, message: str, column: Column | None = None):
        super().__init__(message)
        self.column = column


def _metadata(schema: Schema) -> bytes:
    features = []
    for column in schema:
        features.append(schema_pb2.Feature(name=column.name, type=_METADATA_TYPES[column.feature]))
        if column.row_lengths:
            features.append(schema_pb2.Feature(name=column.row_lengths, type=schema_pb2.INT))
    return schema_pb2.Schema(feature=features).SerializeToString()


def _translate_error(error: RuntimeError, schema: Schema) -> ConversionError:
    """Return an error of tfx-bsl, which has its details only in its message, as an error about a column."""
    found = _WRONG_KIND.search(str(error))
    if found is None:
        unparsed = "Unable to parse" in str(error)
        reason = "the bytes are not a serialized tf.train.Example" if unparsed else f"tfx-bsl cannot decode it: {error}"
        return _FeatureConversionError(reason, None)
    column = next((column for column in schema if found[3] in column.features), None)
    return _FeatureConversionError(f"expected values in {found[1]}, found {found[2]}", column)


def _missing(name: str, found: Any) -> str:
    found = list(found)
    shown = ", ".join(map(repr, found[:_SHOWN_FEATURES])) + (", ..." if len(found) > _SHOWN_FEATURES else "")
    near = near_names(name, found)
    return (
        f"the feature {name!r} is missing; the Example has {shown or 'no features'}"
        f"{near if near.endswith('?') else '.'} For a null, config.write({name}=None), or an empty Feature."
    )


def _check_present(examples: list[bytes], column: Column, rows: np.ndarray, features: dict[str, pa.Array]) -> None:
    """Check that the rows that were decoded to null have the column's features, with no list in them.

    tfx-bsl decodes a feature without a list and a missing feature both to null. A null nearly always has the same
    serialized bytes, so these are searched for first. Values of a bytes feature may hold the same bytes, as serialized
    Examples in a varbinary column do. Then each row is parsed, which is slow and exact.
    """
    for name in column.features:
        key = name.encode()
        entry = b"\n" + _varint(len(key)) + key + b"\x12\0"
        spelling = b"\n" + _varint(len(entry)) + entry
        pattern = re.compile(re.escape(spelling))
        spelled_in_values = any(
            pattern.search(lists.values.buffers()[2] or b"")
            for lists in features.values()
            if not pa.types.is_null(lists.type) and pa.types.is_large_binary(lists.type.value_type)
        )
        for row in rows.tolist():
            if spelled_in_values or spelling not in examples[row]:
                found = ExampleToNumpyDict(examples[row])
                if name not in found:
                    raise ConversionError(_missing(name, found))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
