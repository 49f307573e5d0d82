"""A run's rows for the script: serialized Examples in, tensors or numpy arrays by column out.

What the values are: integers, floats and booleans have the column's own dtype; strings, varbinary
and decimals are bytes (a decimal's ASCII text); date, time and timestamp are integers, counted in
days or the column's unit, so that `.view("datetime64[us]")` makes dates of them and the same numbers come from
`parsed_dataset` and `numpy_batches`.
"""

import re

from beam_tfscript.runtime.columns import InputMismatch
from beam_tfscript.runtime.reading.parsing import Parser, Splits, plain_spec
from beam_tfscript.runtime.reading.unpacking import Unpacker
from beam_tfscript.runtime.tf import tf_versions

# Parsed batches that wait for the script. More would smooth out uneven batches, at a batch of memory each.
_PREFETCHED_BATCHES = 2

_MISSING = re.compile(r"Feature: (.*?) \(data type: \w+\) is required but could not be found")


def feature_spec(columns, exclude=()):
    """What `tf.io.parse_example` needs to parse the rows without this package.

    Scalars and tensors are FixedLenFeature; a nullable one without a default has no default here
    either, so that a null is an error that names the column and never a silent zero. Arrays are
    VarLenFeature. `float64` is its int64 bits: `tf.bitcast(x, tf.float64)`.

    Args:
      columns: the input schema's columns.
      exclude: names of columns to leave out, for example labels.

    Returns:
      A dict, feature name -> FixedLenFeature or VarLenFeature.

    Raises:
      ValueError: a name in `exclude` is not a column.
    """
    spec = {}
    for column in _wanted(columns, exclude):
        spec.update(plain_spec(column))
    return spec


def parsed_dataset(
    source,
    columns,
    batch_size,
    shuffle=0,
    repeat=1,
    masks=False,
    drop_remainder=False,
    exclude=(),
    prefetch=_PREFETCHED_BATCHES,
):
    """The rows as a `tf.data.Dataset` of dicts, column name -> tensor, parsed a batch at a time.

    Args:
      source: path of a TFRecord file, or a Dataset of serialized Examples (or of vectors of them).
      columns: the input schema's columns.
      batch_size: rows in a batch.
      shuffle: size of the shuffle buffer in rows; 0 keeps the order.
      repeat: how many times the rows are gone through; None for without end.
      masks: adds `<name>__present` (bool) for nullable columns without a default, and gives zero,
        the empty string or an empty array where the value is null. Without it a null is an error;
        a null array is an empty one.
      drop_remainder: leaves out a last batch that is not full, and makes the batch size static.
      exclude: names of columns to leave out.
      prefetch: parsed batches to hold ready.

    Returns:
      A Dataset; arrays are `tf.RaggedTensor`. Works in eager and in graph mode.

    Raises:
      ValueError: an option is out of its range or names no column.
    """
    import tensorflow as tf

    _check_rows("batch_size", batch_size, 1)
    _check_rows("shuffle", shuffle, 0)
    if repeat is not None:
        _check_rows("repeat", repeat, -1)
    parser = Parser(_wanted(columns, exclude), masks)
    records = _open(source)
    if shuffle:
        records = records.shuffle(shuffle)
    if repeat != 1:
        records = records.repeat(repeat)

    def parse(serialized):
        return {name: _ragged(value) for name, value in parser(serialized).items()}

    batches = records.batch(batch_size, drop_remainder=drop_remainder)
    return batches.map(tf_versions.as_plain_function(tf, parse)).prefetch(prefetch)


def numpy_batches(source, columns, n, masks=False):
    """The rows as dicts, column name -> numpy array of up to `n` rows.

    TensorFlow reads and parses in threads of its own, so that the next batch is made while the
    script computes. It does so in a graph of its own: neither the script's default graph nor its
    eager state is touched, and no accelerator.

    Args:
      source: path of a TFRecord file, a function without arguments that makes a Dataset of
        serialized Examples (it is called inside that graph), or, in eager mode, a Dataset.
      columns: the input schema's columns.
      n: rows in a batch; the last one may have fewer.
      masks: as for `parsed_dataset`.

    Returns:
      An iterator of dicts. Strings are object arrays of bytes; arrays are object arrays of 1-D
      numpy arrays (of bytes objects, where strings); arrays of arrays hold one such array a row.

    Raises:
      ValueError: `n` is out of range.
      InputMismatch: (while iterating) a row does not fit, such as a null without `masks`.
    """
    _check_rows("n", n, 1)
    unpacker = Unpacker(list(columns), masks)
    if isinstance(source, str) or callable(source):
        return _iterate_in_session(
            lambda tf: _raw_batches(tf, source() if callable(source) else source, unpacker, n), unpacker.unpack
        )
    return _iterate_eagerly(source, unpacker, n)


def record_batches(path, n):
    """The records of a TFRecord file as lists of up to `n` serialized Examples.

    Args:
      path: the file.
      n: records in a list; the last one may have fewer.

    Raises:
      ValueError: `n` is out of range.
    """
    _check_rows("n", n, 1)
    return _iterate_in_session(
        lambda tf: tf.data.TFRecordDataset(path).batch(n).map(lambda records: (records,)),
        lambda values: values[0].tolist(),
    )


def _iterate_in_session(make_batches, unpack):
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        iterator = tf.compat.v1.data.make_initializable_iterator(make_batches(tf))
        following = list(iterator.get_next())
    session = tf_versions.private_session(tf, graph)
    try:
        session.run(iterator.initializer)
        advance = session.make_callable(following)
        while True:
            try:
                # Not by way of a variable, which would hold this batch while the next one is made.
                yield unpack(translate_mismatch(tf, advance))
            except tf.errors.OutOfRangeError:
                return
    finally:
        session.close()


def _iterate_eagerly(source, unpacker, n):
    import tensorflow as tf

    if not tf.executing_eagerly():
        raise TypeError(
            "in graph mode a Dataset belongs to the graph it was made in: give the path of a TFRecord "
            "file, or a function that makes the Dataset"
        )
    elements = iter(_raw_batches(tf, source, unpacker, n))

    def advance():
        return unpacker.unpack([tensor.numpy() for tensor in next(elements)])

    while True:
        try:
            batch = translate_mismatch(tf, advance)
        except StopIteration:
            return
        yield batch


def translate_mismatch(tf, advance):
    """What `advance` returns, with TensorFlow's word on a row that does not fit said in terms of columns."""
    try:
        return advance()
    except tf.errors.InvalidArgumentError as error:
        raise _input_mismatch(error) from error


def _raw_batches(tf, source, unpacker, n):
    """A Dataset of `unpacker.tensors()`."""
    parse = tf_versions.as_plain_function(tf, unpacker.tensors)
    return tf_versions.without_autotuning(tf, _open(source).batch(n).map(parse).prefetch(_PREFETCHED_BATCHES))


def _ragged(value):
    import tensorflow as tf

    if not isinstance(value, Splits):
        return value
    ragged = value.values
    for splits in value.splits:
        ragged = tf.RaggedTensor.from_row_splits(ragged, splits)
    return ragged


def _open(source):
    import tensorflow as tf

    if isinstance(source, str):
        return tf.data.TFRecordDataset(source)
    return tf_versions.one_record_each(tf, source)


def _wanted(columns, exclude):
    if isinstance(exclude, str):
        raise ValueError("`exclude` is a list of column names, got the str {!r}".format(exclude))
    unknown = sorted(set(exclude) - {column.name for column in columns})
    if unknown:
        names = ", ".join(column.name for column in columns)
        raise ValueError("`exclude` names {}, the columns are {}".format(", ".join(unknown), names))
    return [column for column in columns if column.name not in exclude]


def _check_rows(name, value, lowest):
    import numbers

    # True would pass as 1: `shuffle=True` would keep the order without a word.
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < lowest:
        raise ValueError("`{}` must be a whole number of at least {}, got {!r}".format(name, lowest, value))


def _input_mismatch(error):
    missing = _MISSING.search(error.message)
    if missing is None:
        return InputMismatch("a row does not fit the input schema: {}".format(error.message))
    name = missing.group(1)
    return InputMismatch(
        'column "{0}" is null in a row of this batch. Give it a default in the input schema, or ask for masks=True: '
        "the batch then has {0}__present, and a zero where it is null".format(name)
    )
