"""`akdl.engine.train`: input, train and export configs in, a trained and exported model out."""

import logging
import os

from beam_tfscript.runtime.compat.example_inputs import get_dataset_fn, get_feature_placeholders, parse_feature_specs
from beam_tfscript.runtime.compat.model_files import gfile_copy_dir_content

__all__ = ["train_estimator", "train_estimator_one_worker", "train_keras_model"]

_LOGGER = logging.getLogger(__name__)


def train_estimator(estimator, input_config, train_config, export_config, task_config):
    """Train and evaluate an Estimator on the task's rows; the chief then exports it to `saved_model_dir`.

    Args:
      estimator: a `tf.estimator.Estimator`.
      input_config: dict with `example_config`, a list of columns, and `label_col`, the label's name.
      train_config: dict with `raw_dataset_fn`, `batch_size`, `num_epochs`, and other arguments of `get_dataset`.
      export_config: dict with `placeholders_config`, a list of the columns that the serving model takes.
      task_config: the run's config.
    """
    import tensorflow as tf

    dataset_fn = _dataset_fn(input_config, train_config)
    train, evaluate = tf.estimator.TrainSpec(dataset_fn), tf.estimator.EvalSpec(dataset_fn, steps=1)
    tf.estimator.train_and_evaluate(estimator, train, evaluate)
    if not _is_exporter(task_config):
        return
    _LOGGER.info("exporting to %s", task_config.saved_model_dir)
    estimator.export_saved_model(task_config.saved_model_dir, serving_input_receiver_fn=_receiver_fn(export_config))


def train_estimator_one_worker(estimator, input_config, train_config, export_config, task_config):
    """Train an Estimator with evaluations meanwhile, and export its last or its best state to `saved_model_dir`.

    Args:
      estimator, input_config, task_config: as in `train_estimator`.
      train_config: as in `train_estimator`; `valid_raw_dataset_fn` returns the rows of evaluations. With
        `early_stopping_patience_steps`, the training ends if `best_exporter_metric` does not improve for that many
        steps. The metric is checked every `save_checkpoints_steps` steps.
      export_config: as in `train_estimator`; `exporter_type` is "latest" (the default) or "best". "best" goes by the
        metric `best_exporter_metric`; `metric_bigger` is True if more is better.

    Raises:
      ValueError: `exporter_type` is neither "latest" nor "best".
    """
    import tensorflow as tf

    exporter, exports = _make_exporter(tf, estimator.model_dir, export_config)
    tf.estimator.train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(
            _dataset_fn(input_config, train_config), hooks=_stop_hooks(estimator, train_config, export_config)
        ),
        tf.estimator.EvalSpec(
            _valid_dataset_fn(input_config, train_config),
            steps=None,
            exporters=[exporter],
            start_delay_secs=0,
            throttle_secs=0,
        ),
    )
    if _is_exporter(task_config):
        _LOGGER.info("exporting to %s", task_config.saved_model_dir)
        gfile_copy_dir_content(exports, task_config.saved_model_dir)


def train_keras_model(model, input_config, train_config, task_config):
    """Fit a compiled Keras model on the task's rows; the script exports the model.

    Args:
      model: the Keras model; its input is a dict of columns, or the one column that there is.
      input_config, train_config, task_config: as in `train_estimator`.
    """
    model.fit(_dataset_fn(input_config, train_config)())


def _dataset_fn(input_config, train_config):
    return get_dataset_fn(
        feature_specs=parse_feature_specs(input_config["example_config"]),
        label_col=input_config["label_col"],
        **train_config,
    )


def _valid_dataset_fn(input_config, train_config):
    if "valid_raw_dataset_fn" not in train_config:
        # An evaluation without rows: exporters run after an evaluation only.
        train_dataset_fn = _dataset_fn(input_config, train_config)
        return lambda: train_dataset_fn().take(0)
    config = {
        **train_config, "raw_dataset_fn": train_config["valid_raw_dataset_fn"], "num_epochs": 1, "shuffle_factor": 0
    }  # fmt: skip
    return _dataset_fn(input_config, config)


def _stop_hooks(estimator, train_config, export_config):
    """Return a list with the hook that ends the training when the metric stops to improve; empty without settings."""
    missing = {"early_stopping_patience_steps", "save_checkpoints_steps"} - set(train_config)
    if missing or not {"metric_bigger", "best_exporter_metric"} <= set(export_config):
        return []
    from beam_tfscript.runtime.compat import early_stopping

    is_bigger = export_config["metric_bigger"]
    make = early_stopping.stop_if_no_increase_hook if is_bigger else early_stopping.stop_if_no_decrease_hook
    return [
        make(
            estimator,
            export_config["best_exporter_metric"],
            train_config["early_stopping_patience_steps"],
            run_every_secs=None,
            run_every_steps=train_config["save_checkpoints_steps"],
        )
    ]


def _make_exporter(tf, model_dir, export_config):
    """Return (exporter, path of the directory that it exports to)."""
    kind = export_config.get("exporter_type", "latest")
    if kind == "latest":
        exporter = tf.estimator.LatestExporter("latest", _receiver_fn(export_config), exports_to_keep=1)
        return exporter, os.path.join(model_dir, "export", "latest")
    if kind != "best":
        raise ValueError("exporter_type must be 'latest' or 'best', got {!r}".format(kind))
    metric, is_bigger = export_config["best_exporter_metric"], export_config["metric_bigger"]

    def is_better(best_eval_result, current_eval_result):
        best, current = best_eval_result[metric], current_eval_result[metric]
        return current > best if is_bigger else current < best

    exports = os.path.join(model_dir, "export", "best_exporter")
    # If an earlier training has exported, this one must be better, so its evaluations are read. Without an export,
    # TensorFlow 1.15 would take this training's first evaluation for an earlier one, and would not export.
    events = "eval/*.tfevents.*" if tf.io.gfile.isdir(exports) else None
    exporter = tf.estimator.BestExporter(
        serving_input_receiver_fn=_receiver_fn(export_config),
        event_file_pattern=events,
        compare_fn=is_better,
        exports_to_keep=1,
    )
    return exporter, exports


def _receiver_fn(export_config):
    import tensorflow as tf

    # In a graph of their own: the placeholders are only a pattern, of which the export makes new ones.
    with tf.Graph().as_default():
        placeholders = get_feature_placeholders(**export_config)
    return tf.estimator.export.build_raw_serving_input_receiver_fn(placeholders)


def _is_exporter(task_config):
    return task_config.num_workers == 1 or (task_config.task_type, task_config.task_index) == ("chief", 0)
