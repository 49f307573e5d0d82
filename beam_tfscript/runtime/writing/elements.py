"""The values of many rows in, as one flat list or array; what the Example holds of them out."""

from beam_tfscript.runtime.writing.values import TEMPORAL, bytes_of, is_null, mismatch, number_of, units_of

# Up to here strings are checked in one go, which takes as much memory again.
_CHECKED_AT_ONCE_BYTES = 4 << 20

# Up to here floats hold every integer; beyond, each is looked at.
_EXACT_INTS = {"float": 1 << 24, "double": 1 << 53, "float64": 1 << 53}


def elements_of(column, values, row_of):
    """The flat values in the form that the feature holds them in.

    Args:
      column: the `Column`.
      values: list or numpy array of one dimension.
      row_of: function, index of a value -> index of its row, for messages.

    Returns:
      A list of bytes, or an array of float32 or int64; of uint8, where the column is packed.

    Raises:
      OutputMismatch: a value does not fit the column.
    """
    if column.feature == "bytes" and not column.is_packed:
        return _byte_strings(column, values if isinstance(values, list) else values.tolist(), row_of)
    if not isinstance(values, list) and values.dtype == object:
        values = values.tolist()
    numbers = _list_numbers(column, values) if isinstance(values, list) else _numbers(column, values)
    return numbers if numbers is not None else _numbers_one_by_one(column, values, row_of)


def _list_numbers(column, values):
    """As `_numbers`, of a list, whose elements may be of several types."""
    import numpy as np

    kinds = set(map(type, values))
    if column.kind != "boolean" and not kinds.isdisjoint({bool, np.bool_}):
        return None  # numpy would make numbers of them
    array = array_of(values)
    if len(array.shape) > 1 and array.size == len(values):
        array = array.reshape(len(values))
    if kinds == {int, float} and array.dtype.kind == "f" and (abs(array) >= _EXACT_INTS["float"]).any():
        return None  # which may be an int that is rounded already
    return _numbers(column, array)


def _numbers(column, array):
    """The values as float32 or int64; None where one of them needs a closer look."""
    import numpy as np

    if len(array.shape) != 1:
        return None
    kind = array.dtype.kind
    is_float = column.feature == "float" or column.kind == "float64"
    if not len(array):
        return np.empty(0, np.float32 if column.feature == "float" else np.int64)
    if is_float:
        if array.dtype.name == "bfloat16":
            array, kind = array.astype(np.float32), "f"
        return _floats(column, array) if kind in "fiu" and array.dtype.itemsize <= 8 else None
    if column.kind == "boolean":
        return array.astype(np.int64) if kind == "b" else None
    if column.kind in TEMPORAL and kind == ("m" if column.kind == "time" else "M"):
        units = units_of(array, "D" if column.kind == "date" else column.unit)
        if units is None or np.isnat(array).any():
            return None
        array = units
    elif kind not in "iu":
        return None
    low, high = column.int_range
    if int(array.min()) < low or int(array.max()) > high:
        return None
    return array.astype(np.uint8 if column.is_packed else np.int64, copy=False)


def _floats(column, array):
    """As `_numbers`, of floats; an integer must be one that a float holds."""
    import numpy as np

    with np.errstate(over="ignore"):
        held = array.astype(np.float32 if column.kind == "float" else np.float64, copy=False)
        if array.dtype.kind != "f" and max(-int(array.min()), int(array.max())) > _EXACT_INTS[column.kind]:
            return None
        if column.kind == "float64":
            return held.view(np.int64)
        narrow = held.astype(np.float32, copy=False)
    if array.dtype.itemsize > 4 and (np.isinf(narrow) & np.isfinite(array)).any():
        return None
    return narrow


def _numbers_one_by_one(column, values, row_of):
    import numpy as np

    numbers = [_one(number_of, column, value, index, row_of) for index, value in enumerate(values)]
    return np.array(numbers, np.float32 if column.feature == "float" else np.int64)


def _byte_strings(column, values, row_of):
    kinds = set(map(type, values))
    if column.length is not None:
        pass  # each is counted
    elif kinds == {str} and column.kind == "string":
        try:
            return list(map(str.encode, values))
        except UnicodeEncodeError:
            pass  # found again below, with its row
    elif kinds == {bytes} and (column.kind == "varbinary" or column.kind == "string" and _are_utf8(values)):
        return values
    return [_one(bytes_of, column, value, index, row_of) for index, value in enumerate(values)]


def _one(convert, column, value, index, row_of):
    if is_null(value):
        raise mismatch(column, row_of(index), "a null (None) inside an array or tensor")
    return convert(column, value, row_of(index))


def _are_utf8(values):
    """Whether each of the bytes is UTF-8."""
    try:
        if sum(map(len, values)) <= _CHECKED_AT_ONCE_BYTES:
            # Nothing of two strings can be taken for one character with a zero byte between them.
            b"\0".join(values).decode("utf-8")
        else:
            for value in values:
                value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def array_of(values, kind=None):
    """`numpy.array`, but an object array where the values have no common shape, in every version of numpy."""
    import numpy as np

    if values and callable(getattr(values[0], "numpy", None)):
        # Eager tensors: numpy itself would take them apart, a hundred times slower.
        values = [value.numpy() if hasattr(value, "numpy") else value for value in values]
    try:
        return np.array(values, kind)
    except (ValueError, TypeError, OverflowError):
        array = np.empty(len(values), object)  # type: np.ndarray
        for index, value in enumerate(values):
            array[index] = value
        return array
