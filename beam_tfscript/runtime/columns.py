"""The columns of a schema as the script process knows them: JSON objects of the wire form in, `Column`s out."""

import re

# Added to a column's name: the bool array that says which rows are not null (`masks=True`).
PRESENT_SUFFIX = "__present"


UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

# What Python's datetime.date holds: 0001-01-01 to 9999-12-31, in days since 1970.
_DAYS = (-719162, 2932896)
_LENGTH = re.compile(r"\b(varchar|char|varbinary|binary)\((\d+)\)")
_DECIMAL = re.compile(r"\bdecimal\((\d+)(?:,\s*(\d+))?\)")


class OutputMismatch(ValueError):
    """What the script wrote does not fit the output schema."""


class InputMismatch(ValueError):
    """A row does not fit what the script asked for, for example a null in a column without a default."""


class Column(object):
    """One column: how its values look in the script, and which feature of the Example holds them.

    Attributes:
      name: name of the column and of its feature.
      type: the type as in the schema's text, for messages.
      kind: the element's type, for example `smallint`, `float64` or `timestamp`.
      feature: list of the Feature that holds it: `int64`, `float` or `bytes`.
      dtype: numpy dtype of the values in the script, or `bytes`.
      shape: () scalar; (None,) array; (None, None) array of arrays; (28, 28) tensor.
      unit: `s`, `ms`, `us` or `ns` for timestamp and time, else None.
      row_lengths: for arrays of arrays, name of the feature with the inner lengths, else None.
      nullable: whether null is allowed.
      default: what stands for null when read, as it is in the Example (a date is its day number),
        or None.
      int_range: (lowest, highest) number in an int64 feature.
      length: how many characters or bytes a value may have, or None.
      is_fixed_length: whether it has exactly that many.
      precision, scale: of a decimal, how many digits it has in all and after the point, else None.
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

    def __init__(self, wire):
        self.name = wire["name"]
        self.type = wire["type"]
        self.kind = wire["kind"]
        self.feature = wire["feature"]
        self.dtype = wire["dtype"]
        self.shape = tuple(wire["shape"])
        self.unit = wire.get("unit")
        self.row_lengths = wire.get("row_lengths")
        self.nullable = wire["nullable"]
        self.default = wire.get("default")
        self.int_range = self._int_range()
        length = _LENGTH.search(self.type)
        self.length = int(length.group(2)) if length else None
        self.is_fixed_length = length is not None and length.group(1) in ("char", "binary")
        digits = _DECIMAL.search(self.type)
        self.precision = int(digits.group(1)) if digits else None
        self.scale = int(digits.group(2) or 0) if digits else None

    @property
    def is_scalar(self):
        """Whether a row holds exactly one value."""
        return not self.shape

    @property
    def is_array(self):
        """Whether rows hold any number of values."""
        return bool(self.shape) and self.shape[0] is None

    @property
    def is_nested(self):
        """Whether rows hold any number of arrays."""
        return len(self.shape) == 2 and self.shape[0] is None

    @property
    def is_packed(self):
        """Whether the numbers of a row are the bytes of one value: an array or tensor of `uint8`."""
        return self.feature == "bytes" and self.dtype == "uint8"

    @property
    def size(self):
        """Number of values in a row of a scalar or tensor."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def is_masked(self):
        """Whether `masks=True` adds a mask for this column: a null could not be told from a value without it."""
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


def columns_from_wire(wire):
    """The columns of a schema's wire form.

    Args:
      wire: list with one object a column, as `docs/architecture.md` describes it.

    Returns:
      A list of `Column`, in the same order.
    """
    return [Column(one) for one in wire]
