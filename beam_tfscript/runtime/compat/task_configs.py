"""`akdl.runner.config`: the classes of the entry function's argument, which scripts name and instantiate.

The config counts as an instance for `isinstance`. An instance that a script makes holds the given arguments:
`TrainTaskConfig(saved_model_dir=path, **config.__dict__)`.
"""

from abc import ABCMeta

from beam_tfscript.runtime.config import current, dataset_config, feed_config, train_config

__all__ = ["BatchTaskConfig", "StreamTaskConfig", "TrainTaskConfig"]


class _TaskConfig(metaclass=ABCMeta):  # noqa: B024 - for register()
    """Attributes of all three classes; other arguments are ignored."""

    def __init__(self, tf_context, num_workers, cluster, task_type, task_index, work_dir, user_params, **unused):
        self.tf_context = tf_context
        self.num_workers = num_workers
        self.cluster = cluster
        self.task_type = task_type
        self.task_index = task_index
        self.work_dir = work_dir
        self.user_params = user_params


class BatchTaskConfig(_TaskConfig):
    """Config of a run whose rows are in a file.

    Args:
      dataset_file: path of the TFRecord file.
      dataset_length: number of rows in the file.
      output_writer: `write(example)` takes a `tf.train.Example`.
      **fields: `tf_context`, `num_workers`, `cluster`, `task_type`, `task_index`, `work_dir`, `user_params`.
    """

    def __init__(self, dataset_file, dataset_length, output_writer, **fields):
        super(BatchTaskConfig, self).__init__(**fields)
        current.note_reading()  # the script reads its rows by this object, which the config does not see
        self.dataset_file = dataset_file
        self.dataset_length = dataset_length
        self.output_writer = output_writer


class StreamTaskConfig(_TaskConfig):
    """Config of a run whose rows come during the run.

    Args:
      output_writer: `write(example)` takes a `tf.train.Example`.
      dataset_fn: function that returns a Dataset of serialized Examples; None for the run's own rows.
      **fields: as in `BatchTaskConfig`.
    """

    def __init__(self, output_writer, dataset_fn=None, **fields):
        super(StreamTaskConfig, self).__init__(**fields)
        # Not in `config.__dict__`, as it is a method there.
        self.dataset_fn = dataset_fn or self.tf_context.flink_stream_dataset
        self.output_writer = output_writer


class TrainTaskConfig(_TaskConfig):
    """Config of a training.

    Args:
      dataset_file, dataset_length: as in `BatchTaskConfig`.
      saved_model_dir: path to export the SavedModel to.
      latest_ckpt_dir: path of the directory that keeps the last checkpoint, or None.
      **fields: as in `BatchTaskConfig`.
    """

    def __init__(self, dataset_file, dataset_length, saved_model_dir, latest_ckpt_dir=None, **fields):
        super(TrainTaskConfig, self).__init__(**fields)
        current.note_reading()
        self.dataset_file = dataset_file
        self.dataset_length = dataset_length
        self.saved_model_dir = saved_model_dir
        self.latest_ckpt_dir = latest_ckpt_dir


BatchTaskConfig.register(dataset_config.DatasetConfig)
StreamTaskConfig.register(feed_config.StreamConfig)
TrainTaskConfig.register(train_config.TrainConfig)
