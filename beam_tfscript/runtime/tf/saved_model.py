"""SavedModels as `main` leaves them: a directory in, where the model is, what it takes and gives, and that it loads.

Works in graph and in eager mode, on TensorFlow 1.15 to the newest, and changes nothing in the process: what is
loaded is loaded into a graph and a session of its own, as TensorFlow Serving does.
"""

import os
import re

_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
# What an Estimator calls a directory that it has not finished.
_UNFINISHED = "temp-"
_EXPORTERS = "export"
# Files that are a model in another form, by their ending.
_OTHER_FORMS = (".keras", ".h5", ".hdf5", ".tflite", ".index", ".meta")
_SERVING = "serve"
_INITIALIZER = "__saved_model_init_op"
_NAMED_IN_ERRORS = 5


class SavedModelError(ValueError):
    """There is no SavedModel, or it cannot be used; the message says what to do."""


def find_export(directory):
    """The one SavedModel in `directory`: the directory itself, or one below it.

    Below it may be a timestamp's directory, as `Estimator.export_saved_model` makes it, or `export/NAME/TIMESTAMP`, as
    exporters make it; of an exporter's several ones the newest is taken. Directories that an Estimator left unfinished
    (`temp-…`) do not count.

    Args:
      directory: a local path.

    Returns:
      The path of the SavedModel's directory.

    Raises:
      SavedModelError: there is none, or more than one.
    """
    if is_saved_model(directory):
        return directory
    found = _newest_of_exporters(sorted(_saved_models_below(directory)))
    if not found:
        raise SavedModelError(_say_nothing_found(directory))
    if len(found) > 1:
        names = ", ".join(os.path.relpath(path, directory) for path in found[:_NAMED_IN_ERRORS])
        if len(found) > _NAMED_IN_ERRORS:
            names += ", …"
        raise SavedModelError(
            "{} holds {} SavedModels ({}), and one is expected: export one of them, or export the others to "
            "another directory".format(directory, len(found), names)
        )
    return found[0]


def has_export(directory):
    """Whether there is a SavedModel where `find_export` looks for one."""
    return is_saved_model(directory) or any(_saved_models_below(directory))


def is_saved_model(path):
    """Whether a local directory holds a SavedModel itself."""
    return any(os.path.isfile(os.path.join(path, name)) for name in _MODEL_FILES)


def find_newest_version(directory):
    """The newest of the numbered versions of a model, as TensorFlow Serving lays them out.

    Args:
      directory: a path that TensorFlow can read (`tf.io.gfile`), local or not; it holds `1/`, `2/` … , or is itself a
        SavedModel.

    Returns:
      (version, path), or (None, directory) where the directory itself is a SavedModel.

    Raises:
      SavedModelError: it is neither.
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
        path = os.path.join(directory, name)  # TensorFlow Serving takes 00000123 for a version, too
        if has_model(path):
            return version, path
    raise SavedModelError(
        "{} holds neither a SavedModel nor numbered versions of one (1/saved_model.pb, 2/saved_model.pb …)".format(
            directory
        )
    )


def describe(path):
    """What a SavedModel takes and gives.

    Args:
      path: the SavedModel's directory; anything that TensorFlow can read.

    Returns:
      A dict that JSON can hold, signature name -> {"method", "inputs", "outputs"}; the latter two are name ->
      {"dtype": "float32", "shape": [None, 3]}, the shape being None where its rank is not known.

    Raises:
      SavedModelError: it cannot be read, is not made for serving, or has no signature.
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
    """A SavedModel's signatures as TensorFlow holds them: name -> `SignatureDef`; raises as `describe` does."""
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
            "the SavedModel in {} has no signature, so nobody knows how to call it: give tf.saved_model.save(…, "
            "signatures=…), or export a Keras model with model.export()".format(path)
        )
    return signatures


def check_loads(path):
    """Loads a SavedModel, with its variables, and lets go of it again.

    Args:
      path: the SavedModel's directory.

    Raises:
      SavedModelError: it does not load; says why.
    """
    open_session(path).close()


def open_session(path):
    """A session on a graph of its own with the model loaded into it; `close()` it.

    Args:
      path: the SavedModel's directory.

    Raises:
      SavedModelError: it does not load; says why.
    """
    import tensorflow as tf

    graph = tf.Graph()
    # A model that was trained on a device which is not here runs where it can.
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
            names[:] = []  # what lies inside of a model is the model's own
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


def _say_nothing_found(directory):
    if not os.path.isdir(directory):
        return "nothing was exported: {} is not there".format(directory)
    others, unfinished = [], []
    for parent, names, files in os.walk(directory):
        unfinished += [os.path.join(parent, name) for name in names if name.startswith(_UNFINISHED)]
        others += [os.path.join(parent, name) for name in files if name.endswith(_OTHER_FORMS)]
    text = "no SavedModel was exported to {}: nothing in it is named saved_model.pb. ".format(directory)
    if unfinished:
        text += "There is {}, which was not finished. ".format(os.path.relpath(unfinished[0], directory))
    elif others:
        text += "There is {}, a model in another form. ".format(os.path.relpath(others[0], directory))
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

    # Sparse and ragged ones are several tensors, and have their shape elsewhere.
    kind = info.WhichOneof("encoding")
    if kind == "composite_tensor":
        parts = info.composite_tensor.components
        return {"dtype": tf.as_dtype(parts[0].dtype).name if parts else "unknown", "shape": None}
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
    return {"dtype": tf.as_dtype(info.dtype).name, "shape": shape}
