"""Program that loads SavedModels and scores rows one by one, without a pipeline. Python 3.6 syntax.

    python compat_score.py MODEL ROWS

ROWS is JSON text, a list of dicts by column. Prints a JSON list with each row's probability of class 1.
"""

import json
import sys

import numpy as np
import tensorflow.compat.v1 as tf


def main(directory, rows):
    with tf.Graph().as_default(), tf.Session() as session:
        signatures = tf.saved_model.loader.load(session, ["serve"], directory).signature_def
        signature = signatures["predict" if "predict" in signatures else "serving_default"]
        (output,) = [tensor for name, tensor in signature.outputs.items() if name.startswith(("prob", "output"))]
        scores = []
        for row in rows:
            feed = {}
            for name, tensor in signature.inputs.items():
                rank = len(tensor.tensor_shape.dim)
                feed[tensor.name] = np.reshape(row[name.replace("inputs_", "")], [1] * rank)
            scores.append(float(np.ravel(session.run(output.name, feed))[-1]))
    print(json.dumps(scores))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
