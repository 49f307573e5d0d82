"""What `main(config)` is handed: the run's place, its rows, and where its output goes."""

import os

from beam_tfscript.runtime.columns import columns_from_wire
from beam_tfscript.runtime.config.config_values import FeatureSpec, Schema, Window
from beam_tfscript.runtime.config.context import TFContext

# What the entry functions of Deep Learning on Flink ask what they are handed, which is the config.
_OF_CONTEXT = (
    "get_current_attempt_index", "get_index", "get_node_type", "get_node_type_count_map", "get_property",
    "get_role_name", "index", "properties", "roleName",
)  # fmt: skip


class TaskConfig(object):
    """What every kind of run is told.

    Attributes:
      shard: which share of the rows this run has, 0 … num_shards - 1.
      num_shards: how many shares there are.
      window: `Window(start, end)` in seconds, or None in the global window.
      num_workers: the transform's `num_workers`.
      cluster: role -> list of addresses of the TensorFlow cluster this run is part of; a run that is
        alone is the chief of a cluster of one, at an address nobody listens on.
      task_type, task_index: this run's place in the cluster.
      tf_context: the process's one `TFContext`.
      work_dir: the run's own directory: current directory, first on `sys.path`, holds the script and
        the user files. All tasks of a cluster have the same. It goes when the run is over.
      user_params: the transform's `user_params`, as JSON keeps it.
      attempt: 1 for the first try of this run, 2 for the next …
      dataset_lengths: how many rows each worker of the cluster has, the chief first; None where they come as they come.
      input_schema, output_schema: `Schema` of the rows in and out, or None.
    """

    def __init__(self, request, writer, metrics):
        self.shard = request["shard"]
        self.num_shards = request["num_shards"]
        self.window = None if request["window"] is None else Window(*request["window"])
        self.num_workers = request["num_workers"]
        self.cluster = request["cluster"]
        self.task_type = request["task_type"]
        self.task_index = request["task_index"]
        self.work_dir = request["work_dir"]
        self.user_params = request["user_params"]
        self.attempt = request["attempt"]
        self.dataset_lengths = request.get("dataset_lengths")
        self.input_schema = _schema(request["input_schema"])
        self.output_schema = _schema(request["output_schema"])
        self.output_writer = writer
        # The Feed of a run that is handed its rows while it goes on, what sends on its outputs meanwhile, and the
        # queue that it hears from the pipeline by.
        self.feed = None
        self.flusher = None
        self.frames = None
        # Whether the script has asked for rows, for what is said of a run that writes none.
        self.has_read = False
        self._side_inputs = request.get("side_inputs") or {}
        self._log_dir = request.get("log_dir")
        self._metrics = metrics
        self.tf_context = TFContext.get_or_create(self)

    @property
    def feature_spec(self):
        """`FeatureSpec` of the input schema; a dict, and callable with `exclude=`."""
        return FeatureSpec(self._input_columns("feature_spec"))

    @property
    def log_dir(self):
        """Directory for logs such as TensorBoard's, made now; the task's own, kept where the transform's `log_dir` is.

        Raises:
          OSError: it cannot be made.
        """
        os.makedirs(self._log_dir, exist_ok=True)
        return self._log_dir

    def write(self, **row):
        """Writes one row, a value a column; None is null.

        Raises:
          OutputMismatch: the row does not fit the output schema.
        """
        self.output_writer.write_row(row)

    def write_batch(self, **columns):
        """Writes many rows, an equally long list, numpy array or eager tensor a column.

        Raises:
          OutputMismatch: a column does not fit the output schema.
        """
        self.output_writer.write_columns(columns)

    def counter(self, name):
        """A Beam counter of that name, in the namespace `beam_tfscript.script`."""
        from beam_tfscript.runtime.writing.writer import Counter

        return Counter(self._metrics, name)

    def distribution(self, name):
        """A Beam distribution of that name, in the namespace `beam_tfscript.script`."""
        from beam_tfscript.runtime.writing.writer import Distribution

        return Distribution(self._metrics, name)

    @property
    def side_files(self):
        """Name of a side input -> path of a TFRecord file with its rows as serialized Examples."""
        return {name: found["path"] for name, found in self._side_inputs.items()}

    def side_dataset(self, name, batch_size=None):
        """A side input as a `tf.data.Dataset`.

        Args:
          name: its name in the transform's `side_inputs`.
          batch_size: rows in a batch, as a dict, column name -> tensor; None for one serialized Example at a time.

        Raises:
          ValueError: there is no side input of that name.
        """
        import tensorflow as tf

        from beam_tfscript.runtime.reading import reader

        found = self._side_input(name)
        if batch_size is None:
            return tf.data.TFRecordDataset(found["path"])
        return reader.parsed_dataset(found["path"], self._side_columns(name, found), batch_size)

    def side_batches(self, name, n, masks=False):
        """A side input as dicts, column name -> numpy array of up to `n` rows."""
        from beam_tfscript.runtime.reading import reader

        found = self._side_input(name)
        return reader.numpy_batches(found["path"], self._side_columns(name, found), n, masks=masks)

    def __getattr__(self, name):
        """What is not here and scripts for other platforms ask their context for, such as `context.get_index()`."""
        if name in _OF_CONTEXT and "tf_context" in self.__dict__:
            return getattr(self.tf_context, name)
        raise AttributeError(
            "{!r} has no attribute {!r}: what a config has depends on the transform and its feed".format(
                type(self).__name__, name
            )
        )

    def _side_input(self, name):
        if name not in self._side_inputs:
            raise ValueError(
                "there is no side input {!r}; the transform was given {}".format(
                    name, ", ".join(sorted(self._side_inputs)) or "none"
                )
            )
        return self._side_inputs[name]

    def _side_columns(self, name, found):
        if found["schema"] is None:
            raise ValueError(
                "the columns of side input {0!r} are not known: give side_inputs={{{0!r}: (rows, schema)}}".format(name)
            )
        return columns_from_wire(found["schema"])

    def serve(self):
        """Serves as this task of the cluster, for scripts whose coordinator does all; returns when its work is done.

        For worker tasks under `tf.distribute.ParameterServerStrategy`; parameter servers are served without asking.

        Raises:
          RuntimeError: the run is no task of a cluster.
        """
        from beam_tfscript.runtime.config import roles

        roles.serve(self, self.frames)

    def finish(self):
        """Called when `main` has returned."""

    def _input_columns(self, what):
        if self.input_schema is None:
            raise ValueError(
                "{} needs to know the columns, and the input came as serialized Examples without a schema: give the "
                'transform input_schema="…", or read the Examples yourself'.format(what)
            )
        return self.input_schema

    def __repr__(self):
        return "<{} shard {}/{} {}:{} attempt {}>".format(
            type(self).__name__, self.shard, self.num_shards, self.task_type, self.task_index, self.attempt
        )


class BatchTaskConfig(TaskConfig):
    """The config of a run in the `dataset` feed: its rows are complete before `main` is called.

    Attributes:
      dataset_length: how many rows it holds.
      output_writer: `write(example)` takes a `tf.train.Example` or its bytes.
    """

    def __init__(self, request, writer, metrics):
        super(BatchTaskConfig, self).__init__(request, writer, metrics)
        # In `__dict__` as well, which scripts for other platforms hand on whole.
        self.__dict__["dataset_file"] = request["dataset_file"]
        self.dataset_length = request["dataset_length"]

    @property
    def dataset_file(self):
        """Path of a TFRecord file with the run's rows as serialized Examples.

        It may be read any number of times, and is empty where the transform has no input.
        """
        self.has_read = True
        return self.__dict__["dataset_file"]

    @property
    def rows_in(self):
        """How many rows the run was given."""
        return self.dataset_length

    def dataset(self, batch_size, shuffle=0, repeat=1, masks=False, drop_remainder=False, exclude=()):
        """The rows as a `tf.data.Dataset` of dicts, column name -> tensor, parsed a batch at a time.

        Args:
          batch_size: rows in a batch.
          shuffle: size of the shuffle buffer in rows; 0 keeps the order.
          repeat: how many times the rows are gone through; None for without end.
          masks: adds `<name>__present` (bool) for each column that may be null and has no default, and
            gives a zero, or an empty array, where it is. Without it a null scalar is an error.
          drop_remainder: leaves out a last batch that is not full.
          exclude: names of columns to leave out.
        """
        from beam_tfscript.runtime.reading import reader

        return reader.parsed_dataset(
            self.dataset_file,
            self._input_columns("dataset()"),
            batch_size,
            shuffle=shuffle,
            repeat=repeat,
            masks=masks,
            drop_remainder=drop_remainder,
            exclude=exclude,
        )

    def batches(self, n, masks=False):
        """The rows as dicts, column name -> numpy array of up to `n` rows.

        Args:
          n: rows in a batch; the last one may have fewer.
          masks: as for `dataset()`.

        Yields:
          A dict a batch. Strings are arrays of bytes, as TensorFlow gives them.
        """
        from beam_tfscript.runtime.reading import reader

        return reader.numpy_batches(self.dataset_file, self._input_columns("batches()"), n, masks=masks)

    def example_batches(self, n):
        """The rows as lists of up to `n` serialized Examples."""
        from beam_tfscript.runtime.reading import reader

        return reader.record_batches(self.dataset_file, n)


def _schema(wire):
    return None if wire is None else Schema(columns_from_wire(wire))
