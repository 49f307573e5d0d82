"""Config of a run in any feed: the run's task and window, its side inputs, its output and its metrics."""

import os

from beam_tfscript.runtime.columns import columns_from_wire
from beam_tfscript.runtime.config.config_values import FeatureSpec, Schema, Window
from beam_tfscript.runtime.config.tf_context import TFContext
from beam_tfscript.runtime.docs import page

# Entry functions of Deep Learning on Flink get a context, and here a config. These are the context's names.
_OF_CONTEXT = (
    "get_current_attempt_index", "get_index", "get_node_type", "get_node_type_count_map", "get_property",
    "get_role_name", "index", "properties", "roleName",
)  # fmt: skip


class Config(object):
    """Config of any run.

    Attributes:
      shard: int, the run's share of the rows: 0 … num_shards - 1.
      num_shards: int, number of shares.
      window: `Window(start, end)` in seconds since 1970-01-01 UTC; None in the global window.
      num_workers: int, the transform's `num_workers`.
      cluster: dict, role -> list of addresses ("host:port") of the run's TensorFlow cluster. Roles are those of
        `TF_CONFIG`: https://www.tensorflow.org/api_docs/python/tf/distribute/cluster_resolver/TFConfigClusterResolver.
        A run without a cluster is the chief of a cluster of one, at an address without a listener.
      task_type, task_index: str and int, the run's role in the cluster, and its index within the role, from 0.
      tf_context: the run's `TFContext`.
      work_dir: path of the run's directory, which holds the script and the user files. It is the current directory
        and first on `sys.path`. All tasks of a cluster share it. It is removed after the run.
      user_params: the transform's `user_params`, after a round trip through JSON.
      attempt: int, 1 for the first attempt at this run, 2 for the next …
      dataset_lengths: list of int, number of rows of each worker of the cluster, the chief first; None while the
        numbers are not known, as in feed="stream".
      input_schema, output_schema: `Schema` of the rows in and out; None without a schema.
      output_writer: `OutputWriter` of the run.
    """

    def __init__(self, request, writer, metrics, connection, frames):
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
        # Not for scripts: the `Feed` and the `Flusher` of feeds whose rows come during the run, the queue of frames
        # from the pipeline, and True once the script has asked for rows.
        self.feed = None
        self.flusher = None
        self.frames = frames
        self.has_read = False
        self._side_inputs = request.get("side_inputs") or {}
        self._log_dir = request.get("log_dir")
        self._metrics = metrics
        self.tf_context = TFContext.get_or_create(self)

    @property
    def feature_spec(self):
        """`FeatureSpec` of the input schema: a dict for `tf.io.parse_example`, and callable with `exclude=[names]`.

        Raises:
          ValueError: the input has no schema.
        """
        return FeatureSpec(self._input_columns("feature_spec"))

    @property
    def log_dir(self):
        """Path of the task's directory for logs, such as TensorBoard's; made at the first access.

        The logs are kept in the transform's `log_dir`, or in a training's `model_dir`. Without either, they are removed
        after the run.

        Raises:
          OSError: the directory cannot be made.
        """
        os.makedirs(self._log_dir, exist_ok=True)
        return self._log_dir

    def write(self, **row):
        """Write one row.

        Args:
          **row: one value per column; None is null. `<name>__present=False` is null too.

        Raises:
          OutputMismatch: the row does not fit the output schema, or the transform has none.
        """
        self.output_writer.write_row(row)

    def write_batch(self, **columns):
        """Write many rows.

        Args:
          **columns: per column a list, numpy array, eager tensor or ragged tensor, whose first axis is the rows; all of
            one length. None is null. `<name>__present` (bool, shape [rows]) marks nulls of a nullable column.

        Raises:
          OutputMismatch: a column does not fit the output schema, or the transform has none.
        """
        self.output_writer.write_columns(columns)

    def counter(self, name):
        """Return a Beam counter in the namespace `beam_tfscript.script`; `inc(n)` and `dec(n)` change it."""
        from beam_tfscript.runtime.writing.metrics import Counter

        return Counter(self._metrics, name)

    def distribution(self, name):
        """Return a Beam distribution in the namespace `beam_tfscript.script`; `update(value)` adds an int to it."""
        from beam_tfscript.runtime.writing.metrics import Distribution

        return Distribution(self._metrics, name)

    @property
    def side_files(self):
        """Dict, name of a side input -> path of a TFRecord file with its rows as serialized Examples."""
        return {name: side_input["path"] for name, side_input in self._side_inputs.items()}

    def side_dataset(self, name, batch_size=None):
        """Return a side input as a `tf.data.Dataset`.

        Args:
          name: key of the transform's `side_inputs`.
          batch_size: rows per batch of a Dataset of dicts, as `DatasetConfig.dataset` makes it. None for a Dataset of
            serialized Examples (`tf.string`, shape []).

        Raises:
          ValueError: there is no side input of that name, or it has no schema and `batch_size` is given.
        """
        import tensorflow as tf

        from beam_tfscript.runtime.reading import reader

        side_input = self._side_input(name)
        if batch_size is None:
            return tf.data.TFRecordDataset(side_input["path"])
        return reader.parsed_dataset(side_input["path"], self._side_columns(name), batch_size)

    def side_batches(self, name, n, masks=False):
        """Return an iterator of a side input's rows, as `DatasetConfig.batches` does for the input.

        Raises:
          ValueError: there is no side input of that name, it has no schema, or `n` is not a positive integer.
          InputMismatch: while iterating, a row does not fit its column, such as a null without `masks`.
        """
        from beam_tfscript.runtime.reading import reader

        path = self._side_input(name)["path"]
        return reader.numpy_batches(path, self._side_columns(name), n, masks=masks)

    def __getattr__(self, name):
        """Return an attribute of the context, such as `get_index`, for scripts that call their argument a context."""
        if name in _OF_CONTEXT:
            return getattr(self.tf_context, name)
        raise AttributeError(
            "{!r} has no attribute {!r}: a config's attributes depend on the transform and its feed, see {}".format(
                type(self).__name__, name, page("guide")
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

    def _side_columns(self, name):
        schema = self._side_input(name)["schema"]
        if schema is None:
            raise ValueError(
                "the columns of side input {0!r} are not known: give the transform "
                "side_inputs={{{0!r}: (rows, schema)}}".format(name)
            )
        return columns_from_wire(schema)

    def serve(self):
        """Serve as this task of the cluster, and return when the cluster's work is done.

        For worker tasks under `tf.distribute.ParameterServerStrategy`, whose coordinator sends them their work:
        https://www.tensorflow.org/tutorials/distribute/parameter_server_training. Parameter servers need no call,
        unless the transform has `ps_main=True`.

        Raises:
          RuntimeError: the run is not a task of a cluster.
        """
        from beam_tfscript.runtime.config import cluster_server

        cluster_server.serve(self, self.frames)

    def finish(self):
        """Do the run's last work after `main` has returned; called by `run_script`."""

    def _input_columns(self, caller):
        if self.input_schema is None:
            raise ValueError(
                "{} needs to know the columns, and the input came as serialized Examples without a schema: give the "
                'transform input_schema="…", or read the Examples yourself'.format(caller)
            )
        return self.input_schema

    def __repr__(self):
        return "<{} shard {}/{} {}:{} attempt {}>".format(
            type(self).__name__, self.shard, self.num_shards, self.task_type, self.task_index, self.attempt
        )


def _schema(wire_columns):
    return None if wire_columns is None else Schema(columns_from_wire(wire_columns))
