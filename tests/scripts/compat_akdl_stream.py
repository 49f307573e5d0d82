"""Script that trains on rows as they come, and writes the model as rows: the style of the stream components."""

import json
import os

import tensorflow as tf
from akdl.engine.inputs import get_dataset_fn, get_feature_placeholders, parse_feature_specs
from akdl.engine.run_config import generate_run_config
from akdl.runner import io_helper
from akdl.runner.config import StreamTaskConfig

if tf.__version__ >= "2.0":
    tf = tf.compat.v1


def main(task_config: StreamTaskConfig):
    user_params = task_config.user_params
    feature_cols = json.loads(user_params["feature_cols"])
    label_col = user_params["label_col"]
    example_config = [{"name": name, "dtype": "float", "shape": [1]} for name in feature_cols]
    placeholders_config = list(example_config)
    example_config.append({"name": label_col, "dtype": "long", "shape": [1]})
    train_config = {
        "batch_size": int(user_params["batch_size"]),
        "num_epochs": int(user_params["num_epochs"]),
        "log_step_count_steps": 20,
    }

    model_dir = os.path.join(task_config.work_dir, "model_dir")
    io_helper.remove_checkpoint_files(model_dir)
    estimator = tf.estimator.DNNClassifier(
        feature_columns=[tf.feature_column.numeric_column(name) for name in feature_cols],
        hidden_units=[16],
        n_classes=2,
        model_dir=model_dir,
        config=generate_run_config(**train_config),
    )
    dataset_fn = get_dataset_fn(
        feature_specs=parse_feature_specs(example_config),
        raw_dataset_fn=lambda: task_config.tf_context.flink_stream_dataset(),
        label_col=label_col,
        **train_config,
    )
    tf.estimator.train_and_evaluate(estimator, tf.estimator.TrainSpec(dataset_fn), tf.estimator.EvalSpec(dataset_fn))

    placeholders = get_feature_placeholders(placeholders_config, label_col)
    receiver_fn = tf.estimator.export.build_raw_serving_input_receiver_fn(placeholders)
    if (task_config.task_type == "chief" and task_config.task_index == 0) or task_config.num_workers == 1:
        saved_model_dir = os.path.join(task_config.work_dir, "saved_model_dir")
        estimator.export_saved_model(saved_model_dir, serving_input_receiver_fn=receiver_fn)
        io_helper.output_model_to_flink(saved_model_dir, task_config.output_writer)
