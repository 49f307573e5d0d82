"""TensorFlow operations that parse: vectors of serialized Examples in, column name -> tensor out.

Few operations per column: each run builds and optimizes the graph again, and a schema may have hundreds of columns.
"""

from collections import namedtuple

from beam_tfscript.runtime.tf import tf_versions
from beam_tfscript.runtime.writing.single_values import bytes_of, number_of

Splits = namedtuple("Splits", ["values", "splits"])
Splits.__doc__ = """Rows of different lengths: `values` of all rows, and `splits`, the bounds of the rows.

`splits` is a tuple of int64 tensors, the innermost first, each as `tf.RaggedTensor.row_splits`.
https://www.tensorflow.org/api_docs/python/tf/RaggedTensor
"""


def plain_spec(column):
    """Return the features of one column: dict, feature name -> FixedLenFeature or VarLenFeature."""
    import tensorflow as tf

    dtype = {"int64": tf.int64, "float": tf.float32, "bytes": tf.string}[column.feature]
    if column.is_packed:
        # A null array is an empty one.
        return {column.name: tf.io.FixedLenFeature([], dtype, "" if column.is_array else None)}
    if not column.is_array:
        return {column.name: tf.io.FixedLenFeature(list(column.shape), dtype, _default(column))}
    spec = {column.name: tf.io.VarLenFeature(dtype)}
    if column.row_lengths:
        spec[column.row_lengths] = tf.io.VarLenFeature(tf.int64)
    return spec


def masked_columns(columns, masks):
    """Return the columns that get a mask.

    Raises:
      ValueError: a mask would have the name of a column.
    """
    names = {column.name for column in columns}
    masked = [column for column in columns if masks and column.is_masked]
    for column in masked:
        if column.mask_name in names:
            problem = 'the mask of column "{}" would have the name of column "{}": exclude one of the two'
            raise ValueError(problem.format(column.name, column.mask_name))
    return masked


def parse_raw(serialized, columns, masked):
    """Parse the features: dict, feature name -> tensor; a masked feature is sparse whatever its shape."""
    import tensorflow as tf

    spec = {}
    for column in columns:
        spec.update(plain_spec(column))
    for column in masked:
        if column.is_packed and column.is_array:
            continue  # `presence_of_arrays` finds its nulls
        spec[column.name] = tf.io.VarLenFeature(spec[column.name].dtype)
    return tf.io.parse_example(serialized, spec) if spec else {}


def presence_of_arrays(serialized, columns):
    """Return a bool tensor of shape [rows, columns], True where the array is not null.

    `parse_example` gives an empty list for a null too. Only the message tells them apart: a null is a Feature of no
    bytes, and an empty list is not.
    """
    import tensorflow as tf

    def decode(messages, kind, names):
        return tf.io.decode_proto(messages, kind, names, [tf.string] * len(names))

    features = tf.strings.reduce_join(decode(serialized, "tensorflow.Example", ["features"]).values[0], axis=1)
    entries = decode(features, "tensorflow.Features", ["feature"])
    filled = tf.sequence_mask(entries.sizes[:, 0], tf.shape(entries.values[0])[1])
    indices = tf_versions.indices_of_true(tf, filled)
    entry = decode(tf.gather_nd(entries.values[0], indices), "tensorflow.Features.FeatureEntry", ["key", "value"])
    key, feature = [tf.strings.reduce_join(value, axis=1, keepdims=True) for value in entry.values]
    found = tf.equal(key, [[column.name for column in columns]]) & tf.not_equal(feature, "")
    return tf.math.unsorted_segment_sum(tf.cast(found, tf.int32), indices[:, 0], tf.size(serialized)) > 0


class Parser(object):
    """Callable that parses a 1-D string tensor of Examples to a dict, column name -> tensor or `Splits`.

    Args:
      columns: list of the `Column`s to parse.
      masks: adds `<name>__present` for nullable columns without a default.

    Raises:
      ValueError: a mask would have the name of a column.
    """

    def __init__(self, columns, masks):
        self._columns = columns
        self._masked = masked_columns(columns, masks)

    def __call__(self, serialized):
        import tensorflow as tf

        parsed = parse_raw(serialized, self._columns, self._masked)
        ends = tf.range(tf.size(serialized, out_type=tf.int64) + 1)
        result = {}
        for column in self._columns:
            value = parsed[column.name]
            if column.is_packed:
                if column in self._masked and not column.is_array:
                    value, result[column.mask_name] = _dense_packed(column, value)
                result[column.name] = _unpacked(column, value)
                continue
            if column.is_nested:
                value = _nested(column, value, parsed[column.row_lengths], ends)
            elif column.is_array:
                value = Splits(value.values, (_splits(value, ends),))
            elif column in self._masked:
                value, result[column.mask_name] = _dense(column, value)
            result[column.name] = _typed(column, value)
        arrays = [column for column in self._masked if column.is_array]
        if arrays:
            present = presence_of_arrays(serialized, arrays)
            result.update((column.mask_name, present[:, index]) for index, column in enumerate(arrays))
        return result


def _default(column):
    """Return the default of a scalar as the Example would hold it; None without a default."""
    value = column.default
    if value is None:
        return None
    if column.feature != "bytes":
        return number_of(column, value, None)
    if column.kind == "varbinary" and isinstance(value, str):
        return value.encode("utf-8")  # JSON has no bytes
    return bytes_of(column, value, None)


def _typed(column, value):
    """Convert `value` from the feature's dtype to the column's dtype."""
    if isinstance(value, Splits):
        return Splits(_typed(column, value.values), value.splits)
    import tensorflow as tf

    if column.kind == "float64":
        return tf.bitcast(value, tf.float64)
    if column.kind == "boolean":
        return tf.cast(value, tf.bool)
    if column.dtype == "bytes" or value.dtype.name == column.dtype:
        return value
    narrow = tf.cast(value, column.dtype)
    if column.feature == "float":
        return narrow
    # The pipeline's input may be Examples, which it does not check. A cast would wrap a number that is out of range.
    problem = "{}: a value is out of the range of {}".format(column.name, column.type)
    return tf_versions.checked(tf, tf.equal(tf.cast(narrow, tf.int64), value), problem, narrow)


def _dense(column, sparse):
    """Return (values with zeros for nulls, bool mask of the rows that are not null) of a masked scalar or tensor."""
    import tensorflow as tf

    grid = tf.stack([sparse.dense_shape[0], column.size])
    zero = tf.constant("" if column.feature == "bytes" else 0, sparse.dtype)
    # More values in an Example than in the shape are indices out of bounds, which is an error.
    values = tf_versions.sparse_to_dense(tf, sparse.indices, grid, sparse.values, zero)
    present = tf_versions.sparse_to_dense(tf, sparse.indices, grid, tf.constant(True), tf.constant(False))
    if not column.shape:
        return values[:, 0], present[:, 0]
    problem = "{}: a row has neither 0 nor {} values".format(column.name, column.size)
    none_or_all = tf.equal(tf.reduce_any(present, 1), tf.reduce_all(present, 1))
    values = tf_versions.checked(tf, none_or_all, problem, values)
    return tf.reshape(values, (-1,) + column.shape), present[:, 0]


def _dense_packed(column, sparse):
    """Return (bytes with zeros for nulls, bool mask of the rows that are not null) of a masked packed tensor."""
    import tensorflow as tf

    rows = tf.stack([sparse.dense_shape[0], 1])
    zeros = tf.constant(b"\0" * column.size)
    values = tf_versions.sparse_to_dense(tf, sparse.indices, rows, sparse.values, zeros)
    present = tf_versions.sparse_to_dense(tf, sparse.indices, rows, tf.constant(True), tf.constant(False))
    return values[:, 0], present[:, 0]


def _unpacked(column, value):
    """Return the numbers of rows that are one bytes value each: a tensor, or `Splits` for an array."""
    import tensorflow as tf

    lengths = tf.cast(tf.strings.length(value), tf.int64)
    if column.is_array:
        splits = tf.concat([tf.zeros([1], tf.int64), tf.cumsum(lengths)], 0)
        return Splits(tf.io.decode_raw(tf.strings.reduce_join(value), tf.uint8), (splits,))
    problem = "{}: a row does not have {} bytes".format(column.name, column.size)
    value = tf_versions.checked(tf, tf.equal(lengths, column.size), problem, value)
    numbers = tf.reshape(tf.io.decode_raw(value, tf.uint8), (-1,) + column.shape)
    numbers.set_shape(value.shape[:1].concatenate(list(column.shape)))
    return numbers


def _splits(sparse, ends):
    """Return the bounds of the rows of a VarLen feature; `ends` is 0 … number of rows."""
    import tensorflow as tf

    return tf.searchsorted(sparse.indices[:, 0], ends, out_type=tf.int64)


def _nested(column, values, lengths, ends):
    """Return arrays of arrays as `Splits`, from their values and the lengths of the inner arrays."""
    import tensorflow as tf

    outer = _splits(lengths, ends)
    inner = tf.concat([tf.zeros([1], tf.int64), tf.cumsum(lengths.values)], 0)
    problem = "{}: the inner lengths do not add up to the number of values".format(column.name)
    inner = tf_versions.checked(tf, tf.equal(tf.gather(inner, outer), _splits(values, ends)), problem, inner)
    return Splits(values.values, (inner, outer))
