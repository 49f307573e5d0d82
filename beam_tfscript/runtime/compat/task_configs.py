"""`akdl.runner.config`: the classes of what `main` is handed, which scripts name, and make copies of.

The config that `main` is handed is an instance of them (`isinstance` says so). Made by a script, they hold what they
are given: `TrainTaskConfig(saved_model_dir=path, **config.__dict__)`.
"""

from abc import ABCMeta

from beam_tfscript.runtime.config import current, feed_config, task_config, train_config

__all__ = ["BatchTaskConfig", "StreamTaskConfig", "TrainTaskConfig"]


class _TaskConfig(metaclass=ABCMeta):  # noqa: B024 - for register()
    """What all three hold; what else they are given is left out."""

    def __init__(self, tf_context, num_workers, cluster, task_type, task_index, work_dir, user_params, **others):
        self.tf_context = tf_context
        self.num_workers = num_workers
        self.cluster = cluster
        self.task_type = task_type
        self.task_index = task_index
        self.work_dir = work_dir
        self.user_params = user_params


class BatchTaskConfig(_TaskConfig):
    """A run whose rows are in a file.

    Args:
      dataset_file: path of the TFRecord file.
      dataset_length: how many rows it holds.
      output_writer: takes a `tf.train.Example`.
      **fields: `tf_context`, `num_workers`, `cluster`, `task_type`, `task_index`, `work_dir`, `user_params`.
    """

    def __init__(self, dataset_file, dataset_length, output_writer, **fields):
        super(BatchTaskConfig, self).__init__(**fields)
        current.note_reading()  # its rows are read by way of this object
        self.dataset_file = dataset_file
        self.dataset_length = dataset_length
        self.output_writer = output_writer


class StreamTaskConfig(_TaskConfig):
    """A run whose rows come while it goes on.

    Args:
      output_writer: takes a `tf.train.Example`.
      dataset_fn: gives a Dataset of serialized Examples; None for the run's own rows.
      **fields: as in `BatchTaskConfig`.
    """

    def __init__(self, output_writer, dataset_fn=None, **fields):
        super(StreamTaskConfig, self).__init__(**fields)
        # What `main` is handed has it as a method, so that its `__dict__` does not hold it.
        self.dataset_fn = dataset_fn or self.tf_context.flink_stream_dataset
        self.output_writer = output_writer


class TrainTaskConfig(_TaskConfig):
    """A training.

    Args:
      dataset_file, dataset_length: as in `BatchTaskConfig`.
      saved_model_dir: where the SavedModel is exported to.
      latest_ckpt_dir: where the last checkpoint is kept, or None.
      **fields: as in `BatchTaskConfig`.
    """

    def __init__(self, dataset_file, dataset_length, saved_model_dir, latest_ckpt_dir=None, **fields):
        super(TrainTaskConfig, self).__init__(**fields)
        current.note_reading()
        self.dataset_file = dataset_file
        self.dataset_length = dataset_length
        self.saved_model_dir = saved_model_dir
        self.latest_ckpt_dir = latest_ckpt_dir


BatchTaskConfig.register(task_config.BatchTaskConfig)
StreamTaskConfig.register(feed_config.StreamTaskConfig)
TrainTaskConfig.register(train_config.TrainTaskConfig)
