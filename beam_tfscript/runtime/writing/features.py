"""The values of one feature of many rows in (`ColumnValues`), the bytes they take in serialized Examples out.

An Example nests its values five messages deep, each with its length in front. For one feature those
headers depend on the length of its payload alone, so they are made once per length. What takes the
same number of bytes in every row of a batch (floats, tensors, integers) is laid into one byte matrix,
a row of it per Example, with the headers as constant columns; only strings and arrays of
different lengths are put together row by row.

Integers are varints padded to the width of the longest one in the batch: longer than they need be, but
valid (every parser of protocol buffers takes them), and then an integer takes equally many bytes in every row.
"""

# The tag of field 1 where it is a message, string or packed list; all messages on the way use it but for those below.
_FIELD_1 = b"\x0a"
# `value` of a map entry.
_FIELD_2 = b"\x12"
# Which of Feature's lists: field 1, 2 or 3.
_LIST_FIELDS = {"bytes": b"\x0a", "float": b"\x12", "int64": b"\x1a"}

# Headers kept per feature. Strings of a run have few different lengths; long texts may have any.
_KEPT_HEADERS = 65536


class HeadersByLength(dict):
    """Headers by the length of what follows, made when first asked for.

    Args:
      make: function, number of bytes -> header.
    """

    def __init__(self, make):
        super(HeadersByLength, self).__init__()
        self._make = make

    def __missing__(self, size):
        if len(self) >= _KEPT_HEADERS:
            self.clear()
        head = self[size] = self._make(size)
        return head


class Feature(object):
    """Puts headers in front of the values of one feature.

    Args:
      name: name of the feature.
      kind: which of its lists is used: `int64`, `float` or `bytes`.

    Attributes:
      heads: number of payload bytes -> header, where the payload is one packed list or one string.
      list_heads: number of bytes of the list -> header, where the list holds any number of strings, or nothing.
      null: the whole feature, where it is null.
    """

    def __init__(self, name, kind):
        key = name.encode("utf-8")
        self._key = field_header(len(key)) + key + _FIELD_2
        self._list_field = _LIST_FIELDS[kind]
        self._is_bytes = kind == "bytes"
        self.list_heads = HeadersByLength(lambda size: self._entry(self._list_field + varint(size), size))
        self.heads = HeadersByLength(self._head)
        self.null = self._entry(b"", 0)

    def fixed_block(self, count, cells):
        """Header and values (an array, its first axis the rows) where every row has equally many bytes; else None."""
        values, lengths, nulls = cells
        if self._is_bytes or nulls is not None or not count or not len(values):
            return None
        if lengths is not None and (lengths != lengths[0]).any():
            return None
        payload = _packed(values).reshape(count, -1)
        return [self.heads[payload.shape[1] * payload.itemsize], payload]

    def pieces(self, count, cells):
        """A list of headers and a list of payloads, one a row each."""
        if not self._is_bytes:
            heads, payloads = self._number_pieces(count, cells)
        elif cells.lengths is None and len(cells.values) == count:
            payloads = cells.values
            heads = list(map(self.heads.__getitem__, map(len, payloads)))
        else:
            items = [_ITEM_HEADS[len(value)] + value for value in cells.values]
            payloads = [b"".join(items[start:end]) for start, end in _bounds(count, cells)]
            heads = list(map(self.list_heads.__getitem__, map(len, payloads)))
        if cells.nulls is not None:
            for row in cells.nulls.nonzero()[0].tolist():
                heads[row] = self.null
        return heads, payloads

    def _number_pieces(self, count, cells):
        packed = _packed(cells.values)
        width = packed.shape[1] * packed.itemsize
        data = packed.tobytes()
        payloads = [data[start * width : end * width] for start, end in _bounds(count, cells)]
        heads = self.heads
        return [heads[len(payload)] if payload else self.list_heads[0] for payload in payloads], payloads

    def _head(self, size):
        inner = field_header(size)
        return self.list_heads[len(inner) + size] + inner

    def _entry(self, head, size):
        value = varint(len(head) + size) + head
        return field_header(len(self._key) + len(value) + size) + self._key + value


def field_header(size):
    """The tag and length in front of `size` bytes of field 1."""
    return _FIELD_1 + varint(size)


_ITEM_HEADS = HeadersByLength(field_header)


def varint(value):
    """A whole number as a varint; negative ones as their 64-bit two's complement."""
    value &= 0xFFFFFFFFFFFFFFFF
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def matrix_rows(count, blocks):
    """What stands side by side in every row, as a list of bytes.

    Args:
      count: number of rows.
      blocks: list of bytes, the same in every row, and of arrays with the rows as their first axis.
    """
    import numpy as np

    widths = [len(block) if isinstance(block, bytes) else block.shape[1] * block.itemsize for block in blocks]
    width = sum(widths)
    if not width:
        return [b""] * count
    template = b"".join(block if isinstance(block, bytes) else bytes(size) for block, size in zip(blocks, widths))
    matrix = np.empty((count, width), np.uint8)
    matrix[:] = np.frombuffer(template, np.uint8)
    place = 0
    for block, size in zip(blocks, widths):
        if not isinstance(block, bytes):
            # As its own dtype, though not aligned: numpy then copies a value at a time, not a byte.
            target = np.ndarray(block.shape, block.dtype, matrix, place, (width, block.itemsize))
            target[...] = block
        place += size
    return matrix.view("V{}".format(width)).reshape(count).tolist()


def _bounds(count, cells):
    """(start, end) of each row's values."""
    import numpy as np

    if cells.lengths is None:
        size = len(cells.values) // max(count, 1)
        return [(row * size, row * size + size) for row in range(count)]
    ends = np.cumsum(cells.lengths)
    return zip((ends - cells.lengths).tolist(), ends.tolist())


def _packed(values):
    """A flat array of float32 or int64 as it is in a packed list, one row a value."""
    import numpy as np

    if values.dtype.kind == "f":
        return np.ascontiguousarray(values, "<f4").reshape(len(values), 1)
    return _varints(np.ascontiguousarray(values, np.int64).view(np.uint64))


def _varints(values):
    """uint64 values as varints, all as wide as the widest; one row of bytes a value."""
    import numpy as np

    width = max((int(values.max()).bit_length() + 6) // 7, 1) if len(values) else 1
    matrix = np.empty((len(values), width), np.uint8)  # type: np.ndarray
    for place in range(width):
        # As a byte the number keeps its lowest 8 bits; the topmost of them says whether more follow.
        digit = (values >> np.uint64(7 * place) if place else values).astype(np.uint8)
        if place < width - 1:
            np.bitwise_or(digit, np.uint8(0x80), matrix[:, place])
        else:
            np.bitwise_and(digit, np.uint8(0x7F), matrix[:, place])
    return matrix
