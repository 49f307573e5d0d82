"""Script that trains a classifier in the style of the train components: an Estimator and configs."""

import json
import logging

import tensorflow as tf
from akdl.engine.run_config import generate_run_config
from akdl.engine.train import train_estimator
from akdl.runner.config import TrainTaskConfig

if tf.__version__ >= "2.0":
    tf = tf.compat.v1


def main(task_config: TrainTaskConfig):
    user_params = task_config.user_params
    feature_cols = json.loads(user_params["feature_cols"])
    label_col = user_params["label_col"]
    columns = [{"name": name, "dtype": "float", "shape": [1]} for name in feature_cols]

    input_config = {
        "example_config": columns + [{"name": label_col, "dtype": "long", "shape": [1]}],
        "label_col": label_col,
    }
    train_config = {
        "raw_dataset_fn": lambda: tf.data.TFRecordDataset(task_config.dataset_file),
        "batch_size": int(user_params["batch_size"]),
        "num_epochs": int(user_params["num_epochs"]),
        "log_step_count_steps": 20,
    }
    export_config = {"placeholders_config": columns}

    logging.info("training on %d rows", task_config.dataset_length)
    classifier = tf.estimator.DNNClassifier(
        feature_columns=[tf.feature_column.numeric_column(name) for name in feature_cols],
        hidden_units=[16],
        n_classes=2,
        config=generate_run_config(**train_config),
    )
    train_estimator(classifier, input_config, train_config, export_config, task_config)
