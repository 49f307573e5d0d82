"""Values of many rows, as one flat list or array, in; their form in the Example out."""

from beam_tfscript.runtime.writing.single_values import TEMPORAL, bytes_of, is_null, mismatch, number_of, units_of

# Up to this size strings are checked in one call: faster than one by one, but the call copies them.
_CHECKED_AT_ONCE_BYTES = 4 << 20

# A float holds each integer up to this one. Beyond, integers are checked one by one.
_EXACT_INTS = {"float": 1 << 24, "double": 1 << 53, "float64": 1 << 53}


def elements_of(column, values, row_of):
    """Convert flat values to the form that the feature holds.

    Args:
      column: the `Column`.
      values: list or numpy array of one dimension.
      row_of: function, index of a value -> index of its row, for messages.

    Returns:
      A list of bytes, or an array of float32 or int64; an array of uint8 for a packed column.

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
    """Convert as `_numbers` does, for a list, whose elements may be of several types."""
    import numpy as np

    kinds = set(map(type, values))
    if column.kind != "boolean" and not kinds.isdisjoint({bool, np.bool_}):
        return None  # numpy would convert bools to numbers, which `number_of` refuses
    array = array_of(values)
    if len(array.shape) > 1 and array.size == len(values):
        array = array.reshape(len(values))
    if kinds == {int, float} and array.dtype.kind == "f" and (abs(array) >= _EXACT_INTS["float"]).any():
        return None  # numpy may have rounded a large int
    return _numbers(column, array)


def _numbers(column, array):
    """Convert to float32 or int64; return None if the values must be checked one by one."""
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
    """Convert as `_numbers` does, for floats; return None if a float could not hold an integer exactly."""
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
        pass  # the length of each value is checked below
    elif kinds == {str} and column.kind == "string":
        try:
            return list(map(str.encode, values))
        except UnicodeEncodeError:
            pass  # raised again below, with the row
    elif kinds == {bytes} and (column.kind == "varbinary" or column.kind == "string" and _are_utf8(values)):
        return values
    return [_one(bytes_of, column, value, index, row_of) for index, value in enumerate(values)]


def _one(convert, column, value, index, row_of):
    if is_null(value):
        raise mismatch(column, row_of(index), "a null (None) inside an array or tensor")
    return convert(column, value, row_of(index))


def _are_utf8(values):
    """Return True if each value is UTF-8."""
    try:
        if sum(map(len, values)) <= _CHECKED_AT_ONCE_BYTES:
            # The zero byte between them keeps the end of one value and the start of the next from forming a character.
            b"\0".join(values).decode("utf-8")
        else:
            for value in values:
                value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def array_of(values, kind=None):
    """Return `numpy.array(values, kind)`; an object array if the values have no common shape.

    numpy before 1.24 warns then, and newer ones raise: https://numpy.org/doc/stable/release/1.24.0-notes.html.
    """
    import numpy as np

    if values and callable(getattr(values[0], "numpy", None)):
        # Eager tensors: numpy would read them element by element, a hundred times slower.
        values = [value.numpy() if hasattr(value, "numpy") else value for value in values]
    try:
        return np.array(values, kind)
    except (ValueError, TypeError, OverflowError):
        array = np.empty(len(values), object)  # type: np.ndarray
        for index, value in enumerate(values):
            array[index] = value
        return array
