"""Trainings by Estimators, TensorFlow 1.15 to 2.15: with each kind of feature column, alone or in a cluster."""

import json
import os
import shutil

import tensorflow as tf

tf1 = tf.compat.v1
columns = tf.compat.v2.feature_column
WORDS = ["a", "b", "c", "d"]


def main(config):
    """Train, evaluate and export by `train_and_evaluate`; the exporter's output is the model."""
    with open("vocabulary.txt", "w") as file:
        file.write("\n".join(WORDS))
    estimator = tf.estimator.Estimator(
        model_fn,
        model_dir=config.checkpoint_dir,
        config=tf.estimator.RunConfig(save_checkpoints_steps=100, tf_random_seed=1),
    )
    with tf.Graph().as_default():
        spec = columns.make_parse_example_spec(sum(make_columns(), []))
    receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)
    exporter = tf.estimator.FinalExporter("final", receiver)
    results = tf.estimator.train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(lambda: read(config).repeat(), max_steps=config.user_params["steps"]),
        tf.estimator.EvalSpec(
            lambda: read(config), steps=None, start_delay_secs=1, throttle_secs=1, exporters=[exporter]
        ),
    )
    if config.task_type == "evaluator":
        config.report(evaluated_at=estimator.get_variable_value("global_step"))
    elif "TF_CONFIG" not in os.environ:
        config.report(evaluated_at=results[0]["global_step"], loss=results[0]["loss"])
    if config.task_type == "evaluator" or "TF_CONFIG" not in os.environ:
        # The exporter writes below the model's directory; it runs in the evaluator, or in a run without a cluster.
        shutil.copytree(os.path.join(config.checkpoint_dir, "export", "final"), config.saved_model_dir)


def read(config):
    """Return batches of (features, label)."""
    spec = config.feature_spec
    data = tf.data.TFRecordDataset(config.dataset_file).batch(32)
    data = data.map(lambda records: tf1.io.parse_example(records, spec))
    return data.map(lambda row: ({name: row[name] for name in row if name != "y"}, row["y"]))


def make_columns():
    """Return columns of each kind: (for a dense layer, for a linear model, of sequences). Shared ones need a graph."""
    x = columns.numeric_column("x")
    buckets = columns.bucketized_column(x, [0.25, 0.5, 0.75])
    listed = columns.categorical_column_with_vocabulary_list("word", WORDS, num_oov_buckets=1)
    filed = columns.categorical_column_with_vocabulary_file("other", os.path.abspath("vocabulary.txt"), len(WORDS))
    hashed = columns.categorical_column_with_hash_bucket("path", 8)
    number = columns.categorical_column_with_identity("number", 5, default_value=0)
    weighted = columns.weighted_categorical_column(
        columns.categorical_column_with_vocabulary_list("tags", WORDS), "weights"
    )
    crossed = columns.crossed_column([buckets, "word"], 16)
    twice = [columns.categorical_column_with_vocabulary_list(name, WORDS) for name in ("word", "other")]
    dense = [x, buckets, columns.indicator_column(number), columns.embedding_column(listed, 2)]
    dense += [columns.indicator_column(crossed), columns.embedding_column(weighted, 2)]
    dense += columns.shared_embeddings(twice, 3)
    wide = [listed, filed, hashed, number, weighted, crossed, buckets]
    sequences = [
        columns.sequence_numeric_column("steps"),
        columns.indicator_column(columns.sequence_categorical_column_with_identity("ids", 4)),
        columns.embedding_column(columns.sequence_categorical_column_with_hash_bucket("path", 8), 2),
        columns.embedding_column(columns.sequence_categorical_column_with_vocabulary_list("route", WORDS), 2),
        columns.embedding_column(
            columns.sequence_categorical_column_with_vocabulary_file("way", os.path.abspath("vocabulary.txt"), 4), 2
        ),
    ]
    return dense, wide, sequences


def model_fn(features, labels, mode):
    """Fit the sum of dense, linear and sequence columns to a number; write the devices of the variables."""
    dense, wide, sequences = make_columns()
    dense = tf.keras.layers.DenseFeatures(dense)(features)
    total = tf1.feature_column.linear_model(features, wide) + tf1.layers.dense(dense, 1)
    # The sequences of one layer must be of one length.
    for group in (sequences[:1], sequences[1:2], sequences[2:]):
        steps, _ = tf.keras.experimental.SequenceFeatures(group)(features)
        total += tf1.layers.dense(tf.reduce_sum(steps, axis=1), 1)
    value = total[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        outputs = {"predict": tf.estimator.export.PredictOutput({"value": value})}
        outputs["serving_default"] = tf.estimator.export.RegressionOutput(value)
        return tf.estimator.EstimatorSpec(mode, predictions={"value": value}, export_outputs=outputs)
    loss = tf1.losses.mean_squared_error(labels, value)
    check_devices()
    train_op = tf1.train.AdamOptimizer(0.05).minimize(loss, global_step=tf1.train.get_or_create_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def check_devices():
    """Check that variables are on the parameter servers, if there are any."""
    told = json.loads(os.environ.get("TF_CONFIG", "{}"))
    if not told or told["task"]["type"] == "evaluator":
        return
    assert "ps" in told["cluster"]
    for variable in tf1.global_variables():
        assert "/job:ps" in variable.device, (variable.name, variable.device)
