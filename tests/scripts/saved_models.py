"""SavedModels for tests, made in the same way on each TensorFlow. Python 3.6 syntax.

python saved_models.py DIRECTORY [SLOPE]
"""

import sys

import tensorflow as tf

v1 = tf.compat.v1


def save_half_plus_two(path, slope=0.5):
    """Export y = slope * x + 2, with signatures that take serialized Examples, and `serving_default`, which takes x.

    The model that TensorFlow Serving's own tutorials use, made here.
    """
    with tf.Graph().as_default():
        a = v1.get_variable("a", initializer=float(slope))
        b = v1.get_variable("b", initializer=2.0)
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = v1.placeholder(tf.float32, [None, 1], name="x")
        from_examples, from_x = a * parsed["x"] + b, a * x + b
        utils = v1.saved_model
        info = utils.build_tensor_info
        signatures = {
            "regress": utils.regression_signature_def(examples, from_examples),
            "classify": utils.classification_signature_def(examples, None, from_examples),
            "predict": utils.predict_signature_def({"examples": examples}, {"y": from_examples}),
            "serving_default": utils.build_signature_def(
                {"x": info(x)}, {"y": info(from_x)}, "tensorflow/serving/predict"
            ),
        }
        save_graph(path, signatures)


def save_graph(path, signatures, tags=("serve",)):
    """Save the default graph with the initial values of its variables."""
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(path)
        builder.add_meta_graph_and_variables(session, list(tags), signatures)
        builder.save()


if __name__ == "__main__":
    save_half_plus_two(sys.argv[1], *map(float, sys.argv[2:]))
