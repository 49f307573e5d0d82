"""Script that fits a Keras model with the train components' configs."""

import json

import tensorflow as tf
from akdl.engine.train import train_keras_model


def main(task_config):
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
    }
    inputs = [tf.keras.Input((1,), name=name) for name in feature_cols]
    hidden = tf.keras.layers.Dense(16, "relu")(tf.keras.layers.Concatenate()(inputs))
    model = tf.keras.Model(
        dict(zip(feature_cols, inputs)), tf.keras.layers.Dense(1, "sigmoid", name="probability")(hidden)
    )
    model.compile(tf.keras.optimizers.Adam(0.02), "binary_crossentropy")
    train_keras_model(model, input_config, train_config, task_config)
    model.export(task_config.saved_model_dir)
