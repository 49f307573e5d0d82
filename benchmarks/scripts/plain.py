"""Program that scores a TFRecord file with a Keras model: Examples in, a CSV file of ids and scores out.

The baseline of the benchmarks: a script without a pipeline. It scores the same Examples, in the same batches and with
the same model as `score.py`.
"""

import argparse

import tensorflow as tf

FEATURES = {
    "id": tf.io.FixedLenFeature([], tf.string),
    "x": tf.io.FixedLenFeature([32], tf.float32),
}


def main():
    """Read the arguments, and score the file batch by batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", required=True, help="TFRecord file of Examples")
    parser.add_argument("--model", required=True, help="Keras model file")
    parser.add_argument("--predictions", required=True, help="CSV file to write")
    parser.add_argument("--batch-size", type=int, default=1024)
    args = parser.parse_args()

    model = tf.keras.models.load_model(args.model)

    @tf.function
    def score(batch):
        scores = model(batch["x"], training=False)[:, 0]
        return tf.strings.join([batch["id"], tf.strings.as_string(scores, precision=9)], ",")

    dataset = (
        tf.data.TFRecordDataset(args.examples)
        .batch(args.batch_size)
        .map(lambda records: tf.io.parse_example(records, FEATURES), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    with open(args.predictions, "wb") as predictions:
        for batch in dataset:
            predictions.write(b"\n".join(score(batch).numpy().tolist()))
            predictions.write(b"\n")


if __name__ == "__main__":
    main()
