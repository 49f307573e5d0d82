"""`akdl.engine.inputs`: an example config in, feature specs, parsers, placeholders and datasets out.

An example config is a list with one dict per column: `name`, `dtype` (`int`, `long`, `float`, `double`, `string` …) and
`shape`; `feature_type` may be another class than `tf.io.FixedLenFeature`.
"""

__all__ = [
    "dtype_str_map",
    "get_dataset",
    "get_dataset_fn",
    "get_example_parser",
    "get_feature_placeholders",
    "parse_feature_specs",
]


def _dtypes():
    """Return a dict, name of a type -> dtype in an Example, which holds int64 and float32 only."""
    import tensorflow as tf

    return {
        "byte": tf.int8,
        "ubyte": tf.uint8,
        "int": tf.int64,
        "long": tf.int64,
        "float": tf.float32,
        "double": tf.float32,
        "boolean": tf.bool,
        "string": tf.string,
    }


dtype_str_map = _dtypes()


def parse_feature_specs(example_config):
    """Return a dict, column name -> feature, for `tf.io.parse_example`.

    Raises:
      ValueError: a `dtype` is not known.
    """
    import tensorflow as tf

    specs = {}
    for column in example_config:
        dtype = _dtype(column)
        kind = column.get("feature_type", tf.io.FixedLenFeature)
        if kind is tf.io.VarLenFeature:
            specs[column["name"]] = kind(dtype)
        elif kind is tf.io.FixedLenSequenceFeature:
            specs[column["name"]] = kind(column["shape"], dtype, allow_missing=True)
        else:
            specs[column["name"]] = kind(column["shape"], dtype)
    return specs


def get_example_parser(feature_specs, label_col):
    """Return a function, serialized Example -> (dict of the features without the label, label)."""

    def parse(serialized):
        import tensorflow as tf

        features = tf.io.parse_single_example(serialized, features=feature_specs)
        label = features.pop(label_col)
        return features, label

    return parse


def get_feature_placeholders(placeholders_config, export_batch_dim=False, **unused):
    """Return a dict, column name -> placeholder, for `tf.estimator.export.build_raw_serving_input_receiver_fn`.

    Args:
      placeholders_config: an example config.
      export_batch_dim: puts a dimension of 1 in front of each shape.
      **unused: other entries of an export config; ignored.

    Raises:
      ValueError: a `dtype` is not known.
    """
    import tensorflow as tf

    front = [1] if export_batch_dim else []
    return {
        column["name"]: tf.compat.v1.placeholder(
            _dtype(column), shape=front + list(column["shape"]), name=column["name"]
        )
        for column in placeholders_config
    }


def get_dataset(
    feature_specs,
    raw_dataset_fn,
    label_col,
    batch_size,
    num_epochs,
    num_parallel_calls=8,
    shuffle_factor=10,
    prefetch_buffer_size=None,
    post_process_dataset=None,
    **unused,
):
    """Return a Dataset of batches of (features, label), from a Dataset of serialized Examples.

    Args:
      feature_specs: result of `parse_feature_specs`.
      raw_dataset_fn: function that returns the Dataset of serialized Examples.
      label_col: name of the label's column.
      batch_size: rows per batch; the last batch may have fewer.
      num_epochs: number of passes over the rows; a stream's rows can be read once only.
      num_parallel_calls: number of rows that are parsed in parallel.
      shuffle_factor: size of the shuffle buffer in batches; 0 or None keeps the order.
      prefetch_buffer_size: number of batches that wait for the script; 0 or None for none.
      post_process_dataset: function, Dataset of parsed rows -> Dataset.
      **unused: other entries of a train config; ignored.
    """
    parser = get_example_parser(feature_specs, label_col)
    rows = raw_dataset_fn().map(parser, num_parallel_calls=num_parallel_calls)
    if post_process_dataset is not None:
        rows = post_process_dataset(rows)
    if shuffle_factor and shuffle_factor > 0:
        rows = rows.shuffle(batch_size * shuffle_factor)
    batches = rows.repeat(num_epochs).batch(batch_size)
    if prefetch_buffer_size and prefetch_buffer_size > 0:
        batches = batches.prefetch(prefetch_buffer_size)
    return batches


def get_dataset_fn(**arguments):
    """Return a function without arguments that returns `get_dataset(**arguments)`; Estimators take such a function."""
    return lambda: get_dataset(**arguments)


def _dtype(column):
    if column["dtype"] not in dtype_str_map:
        raise ValueError(
            "column {!r}: dtype must be one of {}, got {!r}".format(
                column["name"], ", ".join(sorted(dtype_str_map)), column["dtype"]
            )
        )
    return dtype_str_map[column["dtype"]]
