"""Script that trains, evaluates and exports with an Estimator, as the task of TF_CONFIG. Python 3.6 syntax.

python cluster_estimator.py MODEL_DIR
"""

import sys

import tensorflow as tf


def main(model_dir):
    x = tf.feature_column.numeric_column("x")
    config = tf.estimator.RunConfig(save_checkpoints_steps=20)
    estimator = tf.estimator.LinearRegressor([x], model_dir=model_dir, config=config)

    def rows():
        return tf.data.Dataset.from_tensors(({"x": [[1.0], [2.0]]}, [[1.0], [2.0]])).repeat(40)

    receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(
        tf.feature_column.make_parse_example_spec([x])
    )
    evaluation = tf.estimator.EvalSpec(
        rows, steps=1, exporters=tf.estimator.LatestExporter("latest", receiver), start_delay_secs=0, throttle_secs=0
    )
    tf.estimator.train_and_evaluate(estimator, tf.estimator.TrainSpec(rows, max_steps=40), evaluation)


if __name__ == "__main__":
    main(sys.argv[1])
