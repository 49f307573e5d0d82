"""Checks of `runtime/tf/saved_model.py` on each interpreter; test_runtime_saved_model.py runs them as a program.

    python saved_model_checks.py

prints a JSON object a check, `{"check": name, "error": traceback or null}`. Python 3.6 syntax.
"""

import json
import os
import shutil
import tempfile
import traceback

import tensorflow as tf
from saved_models import save_graph, save_half_plus_two

from beam_tfscript.runtime.tf import saved_model
from beam_tfscript.runtime.tf.saved_model import SavedModelError

v1 = tf.compat.v1
FOLDER = tempfile.mkdtemp()
MODEL = os.path.join(FOLDER, "half_plus_two")


def folder(*names):
    """Make a directory with directories in it; those whose names end in "!" get the model."""
    parent = tempfile.mkdtemp(dir=FOLDER)
    for name in names:
        path = os.path.join(parent, name.rstrip("!"))
        if name.endswith("!"):
            shutil.copytree(MODEL, path)
        else:
            os.makedirs(path)
    return parent


def raises(words, function, *arguments):
    try:
        function(*arguments)
    except SavedModelError as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, (missing, str(error))
        return
    raise AssertionError("nothing was raised")


def check_an_export_is_found_in_the_directory_or_below_it():
    assert saved_model.find_export(MODEL) == MODEL
    for name in ("1795242067", "export/best/1795242067", "my model"):
        parent = folder(name + "!", "checkpoints")
        assert saved_model.find_export(parent) == os.path.join(parent, name)


def check_the_newest_of_an_exporters_models_is_taken():
    parent = folder("export/latest/9!", "export/latest/10!", "eval")
    assert saved_model.find_export(parent) == os.path.join(parent, "export/latest/10")


def check_unfinished_exports_dont_count():
    parent = folder("1795242067!", "temp-1795242068!", "export/latest/temp-b'1795242068'!")
    assert saved_model.find_export(parent) == os.path.join(parent, "1795242067")
    raises(["temp-1", "not finished", "saved_model_dir"], saved_model.find_export, folder("temp-1!"))


def check_two_models_are_an_error_that_names_both():
    raises(["2 SavedModels", "1, 2"], saved_model.find_export, folder("1!", "2!"))
    raises(["best/1", "latest/1"], saved_model.find_export, folder("export/best/1!", "export/latest/1!"))
    raises(["9 SavedModels", "…"], saved_model.find_export, folder(*["{}!".format(i) for i in range(9)]))


def check_no_model_is_an_error_that_says_what_to_write():
    raises(["does not exist"], saved_model.find_export, os.path.join(FOLDER, "nonesuch"))
    raises(["no SavedModel", "model.export(config.saved_model_dir)"], saved_model.find_export, folder("empty"))
    parent = folder("other")
    open(os.path.join(parent, "other", "model.keras"), "w").close()
    raises(["other/model.keras", "another format"], saved_model.find_export, parent)


def check_the_newest_version_is_a_number_with_a_model_in_it():
    find = saved_model.find_newest_version
    parent = folder("9!", "10!", "11", ".publishing/12!", "thirteen!")
    assert find(parent) == (10, os.path.join(parent, "10"))
    assert find(parent + "/") == (10, os.path.join(parent, "10"))
    padded = folder("00000123!")
    assert find(padded) == (123, os.path.join(padded, "00000123"))
    assert find(MODEL) == (None, MODEL)
    raises(["numbered versions"], find, folder("1"))
    raises(["cannot be listed"], find, os.path.join(FOLDER, "nonesuch"))


def check_signatures_are_described():
    described = saved_model.describe(MODEL)
    assert sorted(described) == ["classify", "predict", "regress", "serving_default"]
    assert described["regress"] == {
        "method": "tensorflow/serving/regress",
        "inputs": {"inputs": {"dtype": "string", "shape": [None]}},
        "outputs": {"outputs": {"dtype": "float32", "shape": [None, 1]}},
    }
    assert described["serving_default"]["inputs"] == {"x": {"dtype": "float32", "shape": [None, 1]}}
    json.dumps(described)


def check_unknown_and_composite_shapes_are_described():
    path = os.path.join(FOLDER, "shapes")
    with tf.Graph().as_default():
        anything = v1.placeholder(tf.int64, None)
        sparse = v1.sparse_placeholder(tf.float32)
        v1.get_variable("unused", initializer=0)
        info = v1.saved_model.build_tensor_info
        inputs = {"anything": info(anything), "sparse": info(sparse)}
        save_graph(path, {"predict": v1.saved_model.build_signature_def(inputs, {"same": info(anything)}, "m")})
    inputs = saved_model.describe(path)["predict"]["inputs"]
    assert inputs["anything"] == {"dtype": "int64", "shape": None}
    assert inputs["sparse"]["dtype"] == "float32", inputs


def check_models_that_nobody_can_call_are_errors():
    for name, tags, words in (
        ("unsigned", ["serve"], ["no signature", "signatures="]),
        ("untagged", ["train"], ['tag "serve"']),
    ):
        path = os.path.join(FOLDER, name)
        with tf.Graph().as_default():
            v1.get_variable("a", initializer=0.0)
            save_graph(path, {}, tags)
        raises(words + [path], saved_model.describe, path)
    damaged = folder("1!") + "/1"
    with open(os.path.join(damaged, "saved_model.pb"), "wb") as file:
        file.write(b"\xff\xff\xff")
    raises(["damaged", damaged], saved_model.describe, damaged)
    raises(["cannot be read"], saved_model.describe, folder("none"))


def check_a_model_saved_as_text_is_as_good():
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder("text!") + "/text"
    binary = os.path.join(path, "saved_model.pb")
    with open(binary, "rb") as file:
        text = text_format.MessageToString(saved_model_pb2.SavedModel.FromString(file.read()))
    os.remove(binary)
    with open(binary + "txt", "w") as file:
        file.write(text)
    assert saved_model.find_export(path) == path
    assert saved_model.describe(path) == saved_model.describe(MODEL)
    saved_model.check_loads(path)


def check_loading_leaves_the_process_as_it_was():
    eager = tf.executing_eagerly()
    v1.reset_default_graph()
    saved_model.check_loads(MODEL)
    assert v1.get_default_graph().get_operations() == []
    assert tf.executing_eagerly() == eager and v1.get_default_session() is None


def check_a_model_that_doesnt_load_is_an_error_with_the_reason():
    without = folder("1!") + "/1"
    shutil.rmtree(os.path.join(without, "variables"))
    raises(["does not load", without, "variables"], saved_model.check_loads, without)
    cut = folder("1!") + "/1"
    (data,) = [name for name in os.listdir(os.path.join(cut, "variables")) if ".data-" in name]
    with open(os.path.join(cut, "variables", data), "wb") as file:
        file.write(b"x")
    raises(["does not load"], saved_model.check_loads, cut)


def check_a_model_of_tensorflow_2_is_described_and_loads():
    if not tf.executing_eagerly():
        return  # TensorFlow 1.15 makes none

    class Doubling(tf.Module):
        def __init__(self):
            super(Doubling, self).__init__()
            self.factor = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
        def __call__(self, x):
            return {"twice": self.factor * x}

    model, path = Doubling(), os.path.join(FOLDER, "doubling")
    tf.saved_model.save(model, path, signatures=model.__call__)
    described = saved_model.describe(path)
    assert list(described) == ["serving_default"]
    assert described["serving_default"]["inputs"] == {"x": {"dtype": "float32", "shape": [None, 3]}}
    assert described["serving_default"]["outputs"] == {"twice": {"dtype": "float32", "shape": [None, 3]}}
    saved_model.check_loads(path)
    bare = os.path.join(FOLDER, "bare")
    tf.saved_model.save(tf.Module(), bare)
    raises(["no signature"], saved_model.describe, bare)


CHECKS = {name: value for name, value in list(globals().items()) if name.startswith("check_")}


def main():
    save_half_plus_two(MODEL)
    for name in CHECKS:
        error = None
        try:
            CHECKS[name]()
        except Exception:  # noqa: BLE001 - a check that fails in any way is reported, and the other checks run
            error = traceback.format_exc()
        print(json.dumps({"check": name, "error": error}), flush=True)
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
