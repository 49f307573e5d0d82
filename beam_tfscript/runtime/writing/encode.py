"""Rows that the script writes in, serialized `tf.train.Example`s out; needs numpy, and no TensorFlow.

`column_values.py` checks and flattens the columns, `features.py` lays out the bytes.
"""

import struct

from beam_tfscript.runtime.columns import PRESENT_SUFFIX, OutputMismatch
from beam_tfscript.runtime.writing.column_values import flatten_column
from beam_tfscript.runtime.writing.features import Feature, HeadersByLength, field_header, matrix_rows, varint
from beam_tfscript.runtime.writing.single_values import bytes_of, is_null, mismatch, number_of, shown


class ExampleEncoder(object):
    """Encoder of rows of the output schema; one encoder serves a whole run.

    Args:
      columns: list of the output schema's `Column`s.
    """

    def __init__(self, columns):
        self._columns = list(columns)
        self._by_name = {column.name: column for column in self._columns}
        self._features = {}
        for column in self._columns:
            self._features[column.name] = Feature(column.name, column.feature)
            if column.row_lengths:
                self._features[column.row_lengths] = Feature(column.row_lengths, "int64")
        self._starts = HeadersByLength(field_header)

    def encode_batch(self, columns):
        """Encode many rows.

        Args:
          columns: dict of column name -> list, numpy array, eager tensor or ragged tensor, with one value per row;
            all of one length. None is null. For a nullable column, `<name>__present` may be given: a bool array,
            False where the row is null. An array of shape [n, 1] counts as n scalars.

        Returns:
          A list of bytes, one Example per row.

        Raises:
          OutputMismatch: a column is missing, unknown, of another length or of another type, or a
            value does not fit.
        """
        count, cells = self._flatten(columns)
        blocks, pieces = [], []
        for name, feature in self._features.items():
            fixed = feature.fixed_block(count, cells[name])
            if fixed is not None:
                blocks.extend(fixed)
            else:
                pieces.extend(feature.pieces(count, cells[name]))
        if not pieces:
            size = sum(len(block) if isinstance(block, bytes) else block[0].nbytes for block in blocks)
            return matrix_rows(count, [self._starts[size]] + blocks)
        if blocks:
            pieces.append(matrix_rows(count, blocks))
        starts = self._starts
        return [starts[len(body)] + body for body in map(b"".join, zip(*pieces))]

    def encode_row(self, values):
        """Encode one row.

        Args:
          values: dict of column name -> value. None is null, and so is a value whose `<name>__present` is given and
            False.

        Returns:
          The bytes of the Example.

        Raises:
          OutputMismatch: a column is missing or unknown, or a value does not fit.
        """
        if len(values) != len(self._columns):
            masks = self._masks(values)
            values = {
                name: value if masks.get(name + PRESENT_SUFFIX, True) else None
                for name, value in values.items()
                if name not in masks
            }
        self._check_names(values)
        body = b"".join([part for column in self._columns for part in self._row_parts(column, values[column.name])])
        return self._starts[len(body)] + body

    def encode_example(self, example):
        """Return the bytes of one Example that the script made.

        Args:
          example: a `tf.train.Example`, checked against the columns here; or its serialized bytes, which the
            pipeline checks when it decodes them.

        Raises:
          OutputMismatch: a feature is missing, unknown, or has the wrong kind or number of values.
        """
        if isinstance(example, (bytes, bytearray)):
            return bytes(example)
        try:
            features = example.features.feature
            serialize = example.SerializeToString
        except AttributeError as error:
            problem = "write() takes a tf.train.Example or its bytes, got {}".format(shown(example))
            raise OutputMismatch(problem) from error
        # First: reading an absent key of a protobuf map would add the key.
        # https://protobuf.dev/reference/python/python-generated/#map-fields
        if len(features) != len(self._features) or not all(map(features.__contains__, self._features)):
            raise self._wrong_names(set(features), self._features)
        for column in self._columns:
            _check_feature(column, features[column.name])
        return serialize()

    def _row_parts(self, column, value):
        feature = self._features[column.name]
        if column.is_scalar:
            payload = _scalar_payload(column, value)
            return (feature.null,) if payload is None else (feature.heads[len(payload)], payload)
        cells = flatten_column(column, [value], single=True)[1]
        return [part[0] for name in cells for part in self._features[name].pieces(1, cells[name])]

    def _flatten(self, columns):
        """Return (number of rows, feature name -> `ColumnValues`) of a batch."""
        masks = self._masks(columns)
        plain = {name: value for name, value in columns.items() if name not in masks}
        self._check_names(plain)
        counts, cells = {}, {}
        for column in self._columns:
            count, features = flatten_column(column, plain[column.name], masks.get(column.mask_name))
            counts[column.name] = count
            cells.update(features)
        if len(set(counts.values())) > 1:
            lengths = ", ".join("{}: {}".format(name, count) for name, count in counts.items())
            raise OutputMismatch("the columns must be equally long, got {}".format(lengths))
        return (max(counts.values()) if counts else 0), cells

    def _masks(self, columns):
        """Return the entries of `columns` that are masks of other columns."""
        return {
            name: value
            for name, value in columns.items()
            if name.endswith(PRESENT_SUFFIX)
            and name not in self._by_name
            and name[: -len(PRESENT_SUFFIX)] in self._by_name
        }

    def _check_names(self, given):
        if given.keys() != self._by_name.keys():
            raise self._wrong_names(set(given), self._by_name)

    def _wrong_names(self, given, wanted):
        named = [("missing: ", [name for name in wanted if name not in given])]
        named.append(("unknown: ", sorted(given - set(wanted))))
        problems = "; ".join(word + ", ".join(names) for word, names in named if names)
        schema = ", ".join("{} {}".format(column.name, column.type) for column in self._columns)
        return OutputMismatch("not the columns of the output schema; {}. It is: {}".format(problems, schema))


def _scalar_payload(column, value):
    """Return one value as bytes of the Example; None for null."""
    kind = type(value)
    try:
        if kind is float and column.feature == "float":
            return struct.pack("<f", value)
        if kind is str and column.kind == "string" and column.length is None:
            return value.encode("utf-8")
    except (OverflowError, UnicodeEncodeError):
        pass  # raised again below, with the column's name
    if is_null(value):
        if not column.nullable:
            raise mismatch(column, None, "null (None) in a column that is not null")
        return None
    if column.feature == "bytes":
        return bytes_of(column, value, None)
    number = number_of(column, value, None)
    return struct.pack("<f", number) if column.feature == "float" else varint(number)


def _check_feature(column, feature):
    """Raise OutputMismatch if a feature of a message does not fit its column."""
    wanted = column.feature + "_list"
    # A list of another kind than the one set reads as empty. So a list with values is of the right kind.
    count = len(getattr(feature, wanted).value)
    size = 1 if column.is_packed else column.size if not column.is_array else None
    if count and size in (None, count):
        return
    kind = feature.WhichOneof("kind")
    if kind is None:
        if not column.nullable:
            raise mismatch(column, None, "null (a Feature without a list) in a column that is not null")
    elif kind != wanted:
        raise mismatch(column, None, "expected a Feature with {}, got one with {}".format(wanted, kind))
    elif size is not None:
        hint = "; for null leave the Feature empty: tf.train.Feature()" if not count and column.nullable else ""
        raise mismatch(column, None, "{} values are expected, got {}{}".format(size, count, hint))
