"""SavedModels that `main` has exported: a directory in, the model's path and signatures out.

Works in graph and in eager mode, on TensorFlow 1.15 and newer. A model is loaded into a graph and a session of its own,
as TensorFlow Serving does; so the process's state stays as it is.
"""

import os
import re

_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
# Prefix of a directory that an Estimator is still writing, such as temp-1700000000.
# https://github.com/tensorflow/tensorflow/blob/v2.15.0/tensorflow/python/saved_model/model_utils/export_utils.py
_UNFINISHED = "temp-"
# Directory of an Estimator's exporters: export/NAME/TIMESTAMP.
_EXPORTERS = "export"
# Endings of files that are a model in another format.
_OTHER_FORMS = (".keras", ".h5", ".hdf5", ".tflite", ".index", ".meta")
_SERVING = "serve"
_INITIALIZER = "__saved_model_init_op"
_NAMED_IN_ERRORS = 5


class SavedModelError(ValueError):
    """There is no SavedModel, or not a usable one; the message tells the remedy."""


def find_export(directory):
    """Find the one SavedModel in `directory`: the directory itself, or one below.

    `Estimator.export_saved_model` makes a directory named by a timestamp. An Estimator's exporters make
    `export/NAME/TIMESTAMP`; the newest of each exporter counts. Unfinished directories (`temp-…`) do not count.

    Args:
      directory: a local path.

    Returns:
      The path of the SavedModel's directory.

    Raises:
      SavedModelError: there is no SavedModel, or more than one.
    """
    if is_saved_model(directory):
        return directory
    models = _newest_of_exporters(sorted(_saved_models_below(directory)))
    if not models:
        raise SavedModelError(_nothing_found_text(directory))
    if len(models) > 1:
        names = ", ".join(os.path.relpath(path, directory) for path in models[:_NAMED_IN_ERRORS])
        if len(models) > _NAMED_IN_ERRORS:
            names += ", …"
        raise SavedModelError(
            "{} holds {} SavedModels ({}), and one is expected: export only one, or export the others to another "
            "directory".format(directory, len(models), names)
        )
    return models[0]


def has_export(directory):
    """Return True if `find_export` would find a SavedModel."""
    return is_saved_model(directory) or any(_saved_models_below(directory))


def is_saved_model(path):
    """Return True if a local directory is a SavedModel."""
    return any(os.path.isfile(os.path.join(path, name)) for name in _MODEL_FILES)


def find_newest_version(directory):
    """Find the newest of a model's numbered versions, which are laid out as for TensorFlow Serving.

    https://www.tensorflow.org/tfx/serving/serving_config

    Args:
      directory: path or URI that `tf.io.gfile` can read; it holds `1/`, `2/` …, or is itself a SavedModel.

    Returns:
      (version as int, path); (None, directory) if the directory itself is a SavedModel.

    Raises:
      SavedModelError: the directory holds no SavedModel, or cannot be listed.
    """
    import tensorflow as tf

    def has_model(path):
        return any(tf.io.gfile.exists(os.path.join(path, name)) for name in _MODEL_FILES)

    try:
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(directory)]
    except tf.errors.OpError as error:
        raise SavedModelError("{} cannot be listed: {}".format(directory, error)) from error
    if any(name in _MODEL_FILES for name in names):
        return None, directory
    for version, name in sorted(((int(name), name) for name in names if _is_number(name)), reverse=True):
        path = os.path.join(directory, name)  # not str(version): TensorFlow Serving reads 00000123 as well
        if has_model(path):
            return version, path
    raise SavedModelError(
        "{} holds neither a SavedModel nor numbered versions of one (1/saved_model.pb, 2/saved_model.pb …)".format(
            directory
        )
    )


def describe(path):
    """Describe a SavedModel's signatures.

    Args:
      path: path or URI of the SavedModel's directory, which `tf.io.gfile` can read.

    Returns:
      A dict for JSON, signature name -> {"method", "inputs", "outputs"}. Inputs and outputs are a dict, name ->
      {"dtype": "float32", "shape": [None, 3]}; the shape is None if its rank is not known.

    Raises:
      SavedModelError: the model cannot be read, is not exported for serving, or has no signature.
    """
    signatures = {}
    for name, signature in read_signatures(path).items():
        signatures[name] = {
            "method": signature.method_name,
            "inputs": {key: _describe_tensor(info) for key, info in sorted(signature.inputs.items())},
            "outputs": {key: _describe_tensor(info) for key, info in sorted(signature.outputs.items())},
        }
    return signatures


def read_signatures(path):
    """Return a SavedModel's signatures, name -> `SignatureDef`; raise as `describe` does."""
    graphs = [graph for graph in _parse(path).meta_graphs if _SERVING in graph.meta_info_def.tags]
    if not graphs:
        raise SavedModelError(
            'the SavedModel in {} has no graph with the tag "{}": export it for serving, not for training'.format(
                path, _SERVING
            )
        )
    signatures = {name: value for name, value in sorted(graphs[0].signature_def.items()) if name != _INITIALIZER}
    if not signatures:
        raise SavedModelError(
            "the SavedModel in {} has no signature, by which it could be called: write tf.saved_model.save(…, "
            "signatures=…), or export a Keras model with model.export()".format(path)
        )
    return signatures


def check_loads(path):
    """Check that a SavedModel loads with its variables.

    Args:
      path: path of the SavedModel's directory.

    Raises:
      SavedModelError: the model does not load; the message has TensorFlow's reason.
    """
    open_session(path).close()


def open_session(path):
    """Load a SavedModel into a new graph, and return the graph's session; the caller closes the session.

    Args:
      path: path of the SavedModel's directory.

    Raises:
      SavedModelError: the model does not load; the message has TensorFlow's reason.
    """
    import tensorflow as tf

    graph = tf.Graph()
    # A model may name devices that this machine does not have, such as GPUs: its operations then run on others.
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        with graph.as_default():
            tf.compat.v1.saved_model.load(session, [_SERVING], path)
    except (tf.errors.OpError, ValueError, RuntimeError, OSError, KeyError) as error:
        session.close()
        raise SavedModelError("the SavedModel in {} does not load: {}".format(path, error)) from error
    return session


def _saved_models_below(directory):
    for parent, names, _ in os.walk(directory):
        names[:] = [name for name in names if not name.startswith(_UNFINISHED)]
        if parent != directory and is_saved_model(parent):
            names[:] = []  # directories inside a model, such as `variables`, belong to the model
            yield parent


def _newest_of_exporters(paths):
    newest = {}  # type: dict
    for path in paths:
        series, name = os.path.split(path)
        is_exporters = os.path.basename(os.path.dirname(series)) == _EXPORTERS and _is_number(name)
        key = series if is_exporters else path
        if key not in newest or int(name) > int(os.path.basename(newest[key])):
            newest[key] = path
    return [newest[key] for key in sorted(newest)]


def _is_number(name):
    return re.match(r"[0-9]+\Z", name) is not None


def _nothing_found_text(directory):
    if not os.path.isdir(directory):
        return "nothing was exported: {} does not exist".format(directory)
    other_formats, unfinished = [], []
    for parent, names, files in os.walk(directory):
        unfinished += [os.path.join(parent, name) for name in names if name.startswith(_UNFINISHED)]
        other_formats += [os.path.join(parent, name) for name in files if name.endswith(_OTHER_FORMS)]
    text = "no SavedModel was exported to {}: it holds no file named saved_model.pb. ".format(directory)
    if unfinished:
        text += "There is {}, which was not finished. ".format(os.path.relpath(unfinished[0], directory))
    elif other_formats:
        text += "There is {}, a model in another format. ".format(os.path.relpath(other_formats[0], directory))
    return text + (
        "Write model.export(config.saved_model_dir) with Keras, tf.saved_model.save(model, config.saved_model_dir, "
        "signatures=…), or estimator.export_saved_model(config.saved_model_dir, …)"
    )


def _parse(path):
    import tensorflow as tf
    from google.protobuf import message, text_format  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    binary, text = [os.path.join(path, name) for name in _MODEL_FILES]
    try:
        if tf.io.gfile.exists(binary):
            with tf.io.gfile.GFile(binary, "rb") as file:
                model.ParseFromString(file.read())
        else:
            with tf.io.gfile.GFile(text, "r") as file:
                text_format.Parse(file.read(), model)
    except tf.errors.OpError as error:
        raise SavedModelError("the SavedModel in {} cannot be read: {}".format(path, error)) from error
    except (message.DecodeError, text_format.ParseError) as error:
        raise SavedModelError(
            "the SavedModel in {} is damaged, its saved_model.pb cannot be parsed: {}".format(path, error)
        ) from error
    return model


def _describe_tensor(info):
    import tensorflow as tf

    # Sparse and ragged tensors consist of several tensors, and have their shape elsewhere.
    # https://github.com/tensorflow/tensorflow/blob/v2.15.0/tensorflow/core/protobuf/meta_graph.proto
    kind = info.WhichOneof("encoding")
    if kind == "composite_tensor":
        parts = info.composite_tensor.components
        return {"dtype": tf.as_dtype(parts[0].dtype).name if parts else "unknown", "shape": None}
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
    return {"dtype": tf.as_dtype(info.dtype).name, "shape": shape}
