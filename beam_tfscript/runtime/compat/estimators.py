"""`akdl.engine.train`: input, train and export configs in, a trained and exported model out."""

import logging

from beam_tfscript.runtime.compat.example_inputs import get_dataset_fn, get_feature_placeholders, parse_feature_specs

__all__ = ["train_estimator", "train_keras_model"]

_LOGGER = logging.getLogger(__name__)


def train_estimator(estimator, input_config, train_config, export_config, task_config):
    """Trains and evaluates an Estimator on the task's rows; the chief then exports it to `saved_model_dir`.

    Args:
      estimator: the Estimator.
      input_config: `example_config`, a list of columns, and `label_col`.
      train_config: `raw_dataset_fn`, `batch_size`, `num_epochs` and what else `get_dataset` takes.
      export_config: `placeholders_config`, a list of the columns that the model is given when it serves.
      task_config: what `main` was handed.
    """
    import tensorflow as tf

    dataset_fn = _dataset_fn(input_config, train_config)
    train, evaluate = tf.estimator.TrainSpec(dataset_fn), tf.estimator.EvalSpec(dataset_fn, steps=1)
    tf.estimator.train_and_evaluate(estimator, train, evaluate)
    if not _is_exporter(task_config):
        return
    # In a graph of their own, as they are but a pattern: the export makes them again.
    with tf.Graph().as_default():
        placeholders = get_feature_placeholders(**export_config)
    receiver = tf.estimator.export.build_raw_serving_input_receiver_fn(placeholders)
    _LOGGER.info("exporting to %s", task_config.saved_model_dir)
    estimator.export_saved_model(task_config.saved_model_dir, serving_input_receiver_fn=receiver)


def train_keras_model(model, input_config, train_config, task_config):
    """Fits a compiled Keras model on the task's rows; the script exports it.

    Args:
      model: the model; it takes a dict of columns, or the one column there is.
      input_config, train_config, task_config: as in `train_estimator`.
    """
    model.fit(_dataset_fn(input_config, train_config)())


def _dataset_fn(input_config, train_config):
    return get_dataset_fn(
        feature_specs=parse_feature_specs(input_config["example_config"]),
        label_col=input_config["label_col"],
        **train_config,
    )


def _is_exporter(task_config):
    return task_config.num_workers == 1 or (task_config.task_type, task_config.task_index) == ("chief", 0)
