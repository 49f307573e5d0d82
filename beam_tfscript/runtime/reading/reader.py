"""Rows of a run for the script: serialized Examples in, tensors or numpy arrays by column out.

Integers, floats and booleans have the column's dtype. Strings, varbinary and decimals are bytes; a decimal is its
ASCII text. Date, time and timestamp are integers: days, or the column's unit. So tensors and arrays hold the same
numbers, and `.view("datetime64[us]")` makes dates of an array.
"""

import re

from beam_tfscript.runtime.columns import InputMismatch
from beam_tfscript.runtime.reading.parsing import Parser, Splits, plain_spec
from beam_tfscript.runtime.reading.unpacking import Unpacker
from beam_tfscript.runtime.tf import tf_versions

# Parsed batches that wait for the script. Each takes the memory of a batch; more would even out slow batches.
_PREFETCHED_BATCHES = 2
# Files of one source that are read at a time.
_FILES_AT_A_TIME = 4

# TensorFlow's message on a null in a FixedLenFeature without a default.
# https://github.com/tensorflow/tensorflow/blob/v2.15.0/tensorflow/core/util/example_proto_fast_parsing.cc
_MISSING = re.compile(r"Feature: (.*?) \(data type: \w+\) is required but could not be found")


def feature_spec(columns, exclude=()):
    """Make the spec for `tf.io.parse_example`, with which a script can parse the rows without this package.

    Scalars and tensors are FixedLenFeature. A nullable one without a default has no default here either. So a null is
    an error that names the column, and never a silent zero. Arrays are VarLenFeature. `float64` is its int64 bits:
    `tf.bitcast(x, tf.float64)`. https://www.tensorflow.org/api_docs/python/tf/io/parse_example

    Args:
      columns: list of the input schema's `Column`s.
      exclude: list of column names to leave out, for example labels.

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
    """Make a `tf.data.Dataset` of dicts, column name -> tensor, parsed one batch at a time.

    Args:
      source: path of a TFRecord file, a list of paths, or a Dataset of serialized Examples (or of vectors of them).
      columns: list of the input schema's `Column`s.
      batch_size: rows per batch.
      shuffle: size of the shuffle buffer in rows; 0 keeps the order.
      repeat: number of passes over the rows; None repeats forever.
      masks: adds `<name>__present` (bool) for nullable columns without a default. A null is then a zero, an empty
        string or an empty array. Without masks, a null is an error, and a null array is an empty one.
      drop_remainder: leaves out a last batch that is not full, which makes the batch size static.
      exclude: list of column names to leave out.
      prefetch: number of parsed batches that wait for the script.

    Returns:
      A Dataset, for eager and for graph mode; arrays are `tf.RaggedTensor`.

    Raises:
      ValueError: an argument is out of range, or `exclude` names no column.
    """
    import tensorflow as tf

    check_rows("batch_size", batch_size, 1)
    check_rows("shuffle", shuffle, 0)
    if repeat is not None:
        check_rows("repeat", repeat, -1)
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
    """Return an iterator of the rows as dicts, column name -> numpy array of up to `n` rows.

    TensorFlow's threads read and parse the next batch while the script computes. They use a graph and a session of
    their own. So the script's default graph, its eager state and its accelerators stay untouched.

    Args:
      source: path of a TFRecord file, or a list of paths; or a function without arguments that makes a Dataset of
        serialized Examples, called inside that graph; or, in eager mode, a Dataset.
      columns: list of the input schema's `Column`s.
      n: rows per batch; the last batch may have fewer.
      masks: as for `parsed_dataset`.

    Returns:
      An iterator of dicts. Strings are object arrays of bytes. Arrays are object arrays that hold a 1-D numpy array
      per row; arrays of arrays are object arrays that hold such an object array per row.

    Raises:
      ValueError: `n` is not a positive integer.
      InputMismatch: while iterating, a row does not fit its column, such as a null without `masks`.
    """
    check_rows("n", n, 1)
    unpacker = Unpacker(list(columns), masks)
    if isinstance(source, (str, list)) or callable(source):
        return _iterate_in_session(
            lambda tf: _raw_batches(tf, source() if callable(source) else source, unpacker, n), unpacker.unpack
        )
    return _iterate_eagerly(source, unpacker, n)


def record_batches(source, n):
    """Return an iterator of the records of TFRecord files, as lists of up to `n` bytes objects.

    Args:
      source: path of a file, or a list of paths.
      n: records per list; the last list may have fewer.

    Raises:
      ValueError: `n` is not a positive integer.
    """
    check_rows("n", n, 1)
    return _iterate_in_session(
        lambda tf: _open(source).batch(n).map(lambda records: (records,)),
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
                # Without a variable, which would hold this batch in memory while the next one is made.
                yield unpack(translate_mismatch(tf, advance))
            except tf.errors.OutOfRangeError:
                return
    finally:
        session.close()


def _iterate_eagerly(source, unpacker, n):
    import tensorflow as tf

    if not tf.executing_eagerly():
        raise TypeError(
            "in graph mode a Dataset belongs to the graph that it was made in: give the path of a TFRecord file, or a "
            "function that makes the Dataset"
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
    """Return `advance()`; translate TensorFlow's error on a row that does not fit into an InputMismatch."""
    try:
        return advance()
    except tf.errors.InvalidArgumentError as error:
        raise _input_mismatch(error) from error


def _raw_batches(tf, source, unpacker, n):
    """Return a Dataset of `unpacker.tensors()`."""
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

    if isinstance(source, list) and len(source) > 1:
        # In a fixed order, whatever file is faster.
        return tf.data.TFRecordDataset(source, num_parallel_reads=min(len(source), _FILES_AT_A_TIME))
    if isinstance(source, (str, list)):
        return tf.data.TFRecordDataset(source)
    return tf_versions.one_record_each(tf, source)


def _wanted(columns, exclude):
    if isinstance(exclude, str):
        raise ValueError("`exclude` must be a list of column names, got the str {!r}".format(exclude))
    unknown = sorted(set(exclude) - {column.name for column in columns})
    if unknown:
        names = ", ".join(column.name for column in columns)
        raise ValueError("`exclude` names {}, which is no column; the columns are {}".format(", ".join(unknown), names))
    return [column for column in columns if column.name not in exclude]


def check_rows(name, value, lowest):
    """Check that an argument is an integer of at least `lowest`.

    Raises:
      ValueError: it is not.
    """
    import numbers

    # bool is an int: `shuffle=True` would mean a buffer of one row, which keeps the order.
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < lowest:
        raise ValueError("`{}` must be a whole number of at least {}, got {!r}".format(name, lowest, value))


def _input_mismatch(error):
    missing = _MISSING.search(error.message)
    if missing is None:
        return InputMismatch("a row does not fit the input schema: {}".format(error.message))
    name = missing.group(1)
    return InputMismatch(
        'column "{0}" is null in a row of this batch. Give it a default in the input schema, or pass masks=True: '
        "the batch then has {0}__present, and a zero for each null".format(name)
    )
