"""Columns of a schema in the script process: JSON objects of the wire form in, `Column`s out."""

import re

# A column's name with this suffix is the name of its mask: a bool array, False where the row is null (`masks=True`).
PRESENT_SUFFIX = "__present"
UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

# Range of Python's datetime.date, 0001-01-01 to 9999-12-31, in days since 1970-01-01.
_DAYS = (-719162, 2932896)
_LENGTH = re.compile(r"\b(varchar|char|varbinary|binary)\((\d+)\)")
_DECIMAL = re.compile(r"\bdecimal\((\d+)(?:,\s*(\d+))?\)")


class OutputMismatch(ValueError):
    """A row that the script writes does not fit the output schema."""


class InputMismatch(ValueError):
    """A row does not fit the input schema, for example by a null in a column without a default."""


class Column(object):
    """Column: the form of its values in the script, and their feature in the Example.

    Args:
      wire_column: one object of a schema's wire form.

    Attributes:
      name: name of the column and of its feature.
      type: type as in the schema's text, for messages.
      kind: type of the elements, for example `smallint`, `float64` or `timestamp`.
      feature: list of the Feature that holds the values: `int64`, `float` or `bytes`.
      dtype: numpy dtype of the values in the script, or `bytes`.
      shape: () for a scalar, (None,) for an array, (None, None) for an array of arrays, (28, 28) for a tensor.
      unit: `s`, `ms`, `us` or `ns` for timestamp and time, else None.
      row_lengths: for arrays of arrays, name of the feature with the inner lengths; else None.
      nullable: True if null is allowed.
      default: value that replaces a null on reading, in the Example's form (a date as its day number); or None.
      int_range: (lowest, highest) number in an int64 feature.
      length: maximum number of characters or bytes of a value, or None.
      is_fixed_length: True if each value has exactly `length` of them.
      precision, scale: number of a decimal's digits, in all and after the point; else None.
    """

    __slots__ = (
        "name",
        "type",
        "kind",
        "feature",
        "dtype",
        "shape",
        "unit",
        "row_lengths",
        "nullable",
        "default",
        "int_range",
        "length",
        "is_fixed_length",
        "precision",
        "scale",
    )

    def __init__(self, wire_column):
        self.name = wire_column["name"]
        self.type = wire_column["type"]
        self.kind = wire_column["kind"]
        self.feature = wire_column["feature"]
        self.dtype = wire_column["dtype"]
        self.shape = tuple(wire_column["shape"])
        self.unit = wire_column.get("unit")
        self.row_lengths = wire_column.get("row_lengths")
        self.nullable = wire_column["nullable"]
        self.default = wire_column.get("default")
        self.int_range = self._int_range()
        length = _LENGTH.search(self.type)
        self.length = int(length.group(2)) if length else None
        self.is_fixed_length = length is not None and length.group(1) in ("char", "binary")
        digits = _DECIMAL.search(self.type)
        self.precision = int(digits.group(1)) if digits else None
        self.scale = int(digits.group(2) or 0) if digits else None

    @property
    def is_scalar(self):
        """True if a row holds exactly one value."""
        return not self.shape

    @property
    def is_array(self):
        """True if a row may hold any number of values."""
        return bool(self.shape) and self.shape[0] is None

    @property
    def is_nested(self):
        """True if a row may hold any number of arrays."""
        return len(self.shape) == 2 and self.shape[0] is None

    @property
    def is_packed(self):
        """True for an array or tensor of `uint8`: one bytes value holds all numbers of a row."""
        return self.feature == "bytes" and self.dtype == "uint8"

    @property
    def size(self):
        """Number of values per row of a scalar or tensor."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def is_masked(self):
        """True if `masks=True` adds a mask for this column: without a mask, a null would look like a value."""
        return self.nullable and self.default is None

    @property
    def mask_name(self):
        """Name of the column's mask."""
        return self.name + PRESENT_SUFFIX

    def _int_range(self):
        if self.kind == "boolean":
            return 0, 1
        if self.kind == "date":
            return _DAYS
        if self.kind == "time":
            return 0, 86400 * UNITS_PER_SECOND[self.unit] - 1
        if self.dtype.startswith("uint"):
            return 0, (1 << int(self.dtype[4:])) - 1
        bits = int(self.dtype[3:]) if self.dtype.startswith("int") else 64
        return -(1 << bits - 1), (1 << bits - 1) - 1

    def __repr__(self):
        return "<Column {} {}>".format(self.name, self.type)


def columns_from_wire(wire_columns):
    """Make the columns of a schema's wire form.

    Args:
      wire_columns: list with one object per column, as `docs/architecture.md` describes it.

    Returns:
      A list of `Column`, in the same order.
    """
    return [Column(wire_column) for wire_column in wire_columns]
