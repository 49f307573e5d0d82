"""Arrow batches to serialized Examples and back.

Comes in: an Arrow batch of a schema's types, or rows. Goes out: one serialized `tf.train.Example` a row; and from
Examples, the batch again, or an error that names the first Example and the column that do not fit. Both ways run in
the C++ of tfx-bsl, which does not load TensorFlow.
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
from beam_tfscript.data.faults import ConversionError, find_first, find_ranges
from beam_tfscript.data.features import Rounding, array_from_features, array_to_features, find_rounded
from beam_tfscript.data.near_names import near_names
from beam_tfscript.data.rows import rows_to_record_batch, split_rows
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import OutputError, RowError

__all__ = ["ExampleDecoder", "ExampleEncoder", "is_example_message"]

_METADATA_TYPES = {"int64": schema_pb2.INT, "float": schema_pb2.FLOAT, "bytes": schema_pb2.BYTES}
_WRONG_KIND = re.compile(r'expected (\w+), found (\w+) for feature "(.*)"', re.DOTALL)
_SHOWN_FEATURES = 20
_ErrorClass = type[OutputError] | type[RowError]


def is_example_message(value: Any) -> bool:
    """Says whether a value is a `tf.train.Example`, without importing TensorFlow."""
    descriptor = getattr(type(value), "DESCRIPTOR", None)
    return getattr(descriptor, "full_name", None) == "tensorflow.Example"


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
        """Encodes a batch of `schema.to_arrow()`, a record each.

        Args:
          batch: what `rows_to_record_batch` or `align_record_batch` has returned, or a slice of it.
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
        """Encodes rows.

        Args:
          rows: as in `rows_to_record_batch`.

        Raises:
          RowError: a row does not fit the schema.
        """
        return self.encode(rows_to_record_batch(rows, self.schema))

    def encode_good(self, rows: Sequence[Any]) -> tuple[list[bytes], list[tuple[Any, RowError]]]:
        """Encodes those rows that fit.

        Args:
          rows: as in `rows_to_record_batch`.

        Returns:
          The Examples of the rows that fit, in order, and the other rows, each with what is wrong with it.
        """
        batch, bad = split_rows(rows, self.schema)
        return self.encode(batch), [(rows[index], error) for index, error in bad]


class ExampleDecoder:
    """Decodes Examples of one schema, and checks that they fit it.

    Attributes:
      schema: the columns of the batches that come out.
    """

    def __init__(
        self, schema: Schema, *, absent: str = "error", unknown: str = "error", error: _ErrorClass = OutputError
    ):
        """Makes a decoder; by default, of what a script has written.

        Args:
          schema: the columns that the Examples must have.
          absent: what a feature is that is not there at all: `error`, or `null`.
          unknown: what a feature is that no column has: `error`, or `ignore`.
          error: class of the errors: `OutputError` or `RowError`.
        """
        self.schema = schema
        self._absent = absent
        self._unknown = unknown
        self._error = error
        self._known = frozenset(chain.from_iterable(column.features for column in schema))
        # Told a schema, tfx-bsl skips other features; not told, it shows them all.
        self._metadata = _metadata(schema) if unknown == "ignore" else None
        self._decoder = ExamplesToRecordBatchDecoder(self._metadata)

    @classmethod
    def for_input(cls, schema: Schema) -> ExampleDecoder:
        """Makes a decoder of Examples that come in as rows: absent is null, and other features may be there."""
        return cls(schema, absent="null", unknown="ignore", error=RowError)

    def decode(self, examples: Sequence[bytes]) -> pa.RecordBatch:
        """Decodes serialized Examples.

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
        """Decodes those Examples that fit.

        Args:
          examples: the Examples' bytes.

        Returns:
          The batch of those that fit, in order, and the others, each with what is wrong with it.
        """
        examples = examples if isinstance(examples, list) else list(examples)
        try:
            return self._decode(examples), []
        except ConversionError:
            pass  # some do not fit: which ones is found out by halving the list
        good, bad = find_ranges(len(examples), lambda start, stop: self._decode(examples[start:stop]))
        batch = self._decode([example for start, stop in good for example in examples[start:stop]])
        return batch, [(examples[index], self._error_of(index, misfit)) for index, misfit in bad]

    def _decode(self, examples: list[bytes]) -> pa.RecordBatch:
        if not examples:
            return rows_to_record_batch([], self.schema)
        try:
            batch = self._decoder.DecodeBatch(examples)
        except RuntimeError as error:
            # A decoder with a schema keeps the values of a batch that failed, and adds the next batch's to them.
            self._decoder = ExamplesToRecordBatchDecoder(self._metadata)
            raise _parse_misfit(error, self.schema) from error
        features = dict(zip(batch.schema.names, batch.columns))
        self._check_names(features, examples)
        arrays = []
        for column in self.schema:
            try:
                array = array_from_features(features, column)
                if array.null_count and self._absent == "error":
                    _check_present(examples, column, np.flatnonzero(array.is_null()), features)
            except ConversionError as misfit:
                raise _FeatureConversionError(str(misfit), column) from misfit
            arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema.to_arrow())

    def _check_names(self, features: dict[str, pa.Array], examples: list[bytes]) -> None:
        """Sees to it that all columns' features are there, and no others."""
        for column in self.schema:
            for name in column.features:
                if name not in features and self._absent == "error":
                    raise _FeatureConversionError(_missing(name, features), column)
                features.setdefault(name, pa.nulls(len(examples)))
        for name in features:
            if name not in self._known and self._unknown == "error":
                near = near_names(name, self.schema.names)
                raise _FeatureConversionError(f"the feature {name!r} is no column of the schema{near}", None)

    def _error_of(self, index: int, misfit: ConversionError) -> OutputError | RowError:
        column = getattr(misfit, "column", None)
        where = f"Example #{index}" if column is None else f"Example #{index}, column {column.name!r} ({column.type})"
        message = f"{where}: {misfit}" + ("" if str(misfit).endswith((".", "?")) else ".")
        return self._error(message, index=index, column=column and column.name)


class _FeatureConversionError(ConversionError):
    """Features of an Example that do not fit a column; None where it is not about a column."""

    def __init__(self, message: str, column: Column | None):
        super().__init__(message)
        self.column = column


def _metadata(schema: Schema) -> bytes:
    features = []
    for column in schema:
        features.append(schema_pb2.Feature(name=column.name, type=_METADATA_TYPES[column.feature]))
        if column.row_lengths:
            features.append(schema_pb2.Feature(name=column.row_lengths, type=schema_pb2.INT))
    return schema_pb2.Schema(feature=features).SerializeToString()


def _parse_misfit(error: RuntimeError, schema: Schema) -> ConversionError:
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
    """Tells null, which is a feature without a list, from a feature that is not there.

    tfx-bsl decodes both to null, so those Examples are looked at again. A null is nearly always written in one and
    the same way, and is searched for first. Values of bytes that hold this spelling, as serialized Examples in a
    varbinary column may, send all to the slow and exact way; numbers that spell it by chance do not matter.
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
