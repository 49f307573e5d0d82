"""Script that trains with evaluations, stops early, and exports the best model: the style of one worker."""

import json
import os

import tensorflow as tf
from akdl.engine.run_config import generate_run_config
from akdl.engine.train import train_estimator_one_worker
from akdl.runner.config import TrainTaskConfig

if tf.__version__ >= "2.0":
    tf = tf.compat.v1


def main(task_config: TrainTaskConfig):
    assert task_config.latest_ckpt_dir is None
    user_params = task_config.user_params
    feature_cols = json.loads(user_params["feature_cols"])
    label_col = user_params["label_col"]
    columns = [{"name": name, "dtype": "float", "shape": [1]} for name in feature_cols]
    input_config = {
        "example_config": columns + [{"name": label_col, "dtype": "long", "shape": [1]}],
        "label_col": label_col,
    }
    train_config = {
        "raw_dataset_fn": lambda: tf.data.TFRecordDataset(task_config.dataset_file).skip(64),
        "valid_raw_dataset_fn": lambda: tf.data.TFRecordDataset(task_config.dataset_file).take(64),
        "batch_size": int(user_params["batch_size"]),
        # Without early stopping, the training would take hours.
        "num_epochs": 1000000,
        "save_checkpoints_steps": 50,
        "early_stopping_patience_steps": 100,
    }
    export_config = {
        "placeholders_config": columns,
        "exporter_type": user_params["exporter_type"],
        "best_exporter_metric": "accuracy",
        "metric_bigger": True,
    }
    classifier = tf.estimator.DNNClassifier(
        feature_columns=[tf.feature_column.numeric_column(name) for name in feature_cols],
        hidden_units=[16],
        n_classes=2,
        model_dir=os.path.join(task_config.work_dir, "model"),
        config=generate_run_config(**train_config),
    )
    train_estimator_one_worker(classifier, input_config, train_config, export_config, task_config)
