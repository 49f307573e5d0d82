"""Values of one feature of many rows (`ColumnValues`) in, their bytes in serialized Examples out.

An Example nests its values five messages deep, each with its length in front. The format of the messages:
https://protobuf.dev/programming-guides/encoding/ and
https://github.com/tensorflow/tensorflow/blob/v2.15.0/tensorflow/core/example/feature.proto.

For one feature, the headers depend only on the length of its payload, so they are made once per length. Floats,
tensors and integers take the same number of bytes in each row of a batch. They are copied into one byte matrix, one
row per Example, with the headers as constant columns. Strings, and arrays of different lengths, are joined row by row.

Integers are varints, padded to the width of the longest one in the batch. Padded varints are longer than necessary, but
valid, and each row then has the same size.
"""

# Tag of field 1 with a length: a message, a string or a packed list. The messages use this field, except those below.
_FIELD_1 = b"\x0a"
# Tag of `value` in a map entry.
_FIELD_2 = b"\x12"
# Tags of the lists in `Feature`: fields 1, 2 and 3.
_LIST_FIELDS = {"bytes": b"\x0a", "float": b"\x12", "int64": b"\x1a"}

# Headers kept per feature, so that memory stays bounded: short strings have few different lengths, long texts many.
_KEPT_HEADERS = 65536


class HeadersByLength(dict):
    """Headers by the number of bytes that follow; each is made at its first use.

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
    """Encoder of one feature: puts headers in front of its values.

    Args:
      name: name of the feature.
      kind: list of the feature that holds its values: `int64`, `float` or `bytes`.

    Attributes:
      heads: number of payload bytes -> header, for a payload that is one packed list or one string.
      list_heads: number of bytes of the list -> header, for a list of any number of strings, or of nothing.
      null: bytes of the whole feature of a null.
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
        """Return [header, values] if each row has equally many bytes, else None.

        The values are an array of shape [rows, values per row] (float32) or [rows, bytes per row] (uint8).
        """
        values, lengths, nulls = cells
        if self._is_bytes or nulls is not None or not count or not len(values):
            return None
        if lengths is not None and (lengths != lengths[0]).any():
            return None
        payload = _packed(values).reshape(count, -1)
        return [self.heads[payload.shape[1] * payload.itemsize], payload]

    def pieces(self, count, cells):
        """Return (list of headers, list of payloads), each with one item per row."""
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
    """Return the tag and the length in front of `size` bytes of field 1."""
    return _FIELD_1 + varint(size)


_ITEM_HEADS = HeadersByLength(field_header)


def varint(value):
    """Return an integer as a varint; a negative one as its 64-bit two's complement."""
    value &= 0xFFFFFFFFFFFFFFFF
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def matrix_rows(count, blocks):
    """Join blocks side by side; return a list of bytes, one item per row.

    Args:
      count: number of rows.
      blocks: list of bytes, which are the same in each row, and of arrays whose first axis is the rows.
    """
    import numpy as np

    widths = [len(block) if isinstance(block, bytes) else block.shape[1] * block.itemsize for block in blocks]
    width = sum(widths)
    if not width:
        return [b""] * count
    template = b"".join(block if isinstance(block, bytes) else bytes(size) for block, size in zip(blocks, widths))
    matrix = np.empty((count, width), np.uint8)
    matrix[:] = np.frombuffer(template, np.uint8)
    offset = 0
    for block, size in zip(blocks, widths):
        if not isinstance(block, bytes):
            # As the block's own dtype, though unaligned: so numpy copies value by value, and not byte by byte.
            target = np.ndarray(block.shape, block.dtype, matrix, offset, (width, block.itemsize))
            target[...] = block
        offset += size
    return matrix.view("V{}".format(width)).reshape(count).tolist()


def _bounds(count, cells):
    """Return (start, end) of each row's values."""
    import numpy as np

    if cells.lengths is None:
        size = len(cells.values) // max(count, 1)
        return [(row * size, row * size + size) for row in range(count)]
    ends = np.cumsum(cells.lengths)
    return zip((ends - cells.lengths).tolist(), ends.tolist())


def _packed(values):
    """Return a flat array of float32 or int64 as in a packed list, one row per value."""
    import numpy as np

    if values.dtype.kind == "f":
        return np.ascontiguousarray(values, "<f4").reshape(len(values), 1)
    return _varints(np.ascontiguousarray(values, np.int64).view(np.uint64))


def _varints(values):
    """Return uint64 values as varints, all as wide as the widest: a uint8 array, one row per value."""
    import numpy as np

    width = max((int(values.max()).bit_length() + 6) // 7, 1) if len(values) else 1
    matrix = np.empty((len(values), width), np.uint8)  # type: np.ndarray
    for position in range(width):
        # The cast keeps the lowest 8 bits. The highest of them tells that more bytes follow.
        digit = (values >> np.uint64(7 * position) if position else values).astype(np.uint8)
        if position < width - 1:
            np.bitwise_or(digit, np.uint8(0x80), matrix[:, position])
        else:
            np.bitwise_and(digit, np.uint8(0x7F), matrix[:, position])
    return matrix
