"""TFContext: the run's task in its TensorFlow cluster, with the methods that scripts for other platforms call."""

import json
import os

from beam_tfscript.runtime.config.current import get_config

__all__ = ["TFContext"]


class TFContext(object):
    """Task of the current run in its TensorFlow cluster.

    There is one per run. `TFContext.get_or_create()` returns it anywhere in the script; it is the same object as
    `config.tf_context`. A script may also construct it once per run: `TFContext(config)`.

    `get_role_name()`, `get_index()` and `get_tf_cluster()` count the chief as worker 0, as Deep Learning on Flink does:
    https://github.com/flink-extended/dl-on-flink. `task_type`, `task_index` and `cluster` are as in `TF_CONFIG`.

    Attributes:
      task_type, task_index, cluster, num_workers, window: as in the config.
      input_schema, output_schema, output_writer: as in the config.
      roleName, index: results of `get_role_name()` and `get_index()`.

    Raises:
      RuntimeError: the context is constructed a second time, or there is no current run.
    """

    _current: "TFContext | None" = None
    _is_constructed = False

    def __new__(cls, config=None):
        if TFContext._is_constructed:
            raise RuntimeError(
                "there is one TFContext per run, and it is constructed already: TFContext.get_or_create() returns it"
            )
        context = cls.get_or_create()
        TFContext._is_constructed = True
        return context

    def __init__(self, config=None):
        """Do nothing: the run has made the context."""

    @classmethod
    def get_or_create(cls, config=None):
        """Return the context of the current run.

        Args:
          config: ignored; scripts for other platforms give it.

        Raises:
          RuntimeError: there is no current run.
        """
        if TFContext._current is None:
            if config is None:
                config = get_config()
            context = object.__new__(TFContext)
            context._set_config(config)
            TFContext._current = context
        return TFContext._current

    @classmethod
    def forget(cls):
        """Forget the context, so that the next run gets a new one."""
        TFContext._current = None
        TFContext._is_constructed = False

    def get_role_name(self):
        """Return the role, `"worker"`, `"ps"` or `"evaluator"`; the chief is a worker."""
        return "worker" if self.task_type == "chief" else self.task_type

    def get_index(self):
        """Return the task's index within its role, from 0; the chief is worker 0."""
        behind_chief = self.task_type == "worker" and "chief" in self.cluster
        return self.task_index + 1 if behind_chief else self.task_index

    def get_tf_cluster(self):
        """Return the cluster with the chief as worker 0: dict, role -> list of addresses, for `tf.train.ClusterSpec`.

        Parameter servers that the runtime starts know the chief as "chief". So a script that starts servers from this
        dict needs `ps_main=True`. https://www.tensorflow.org/api_docs/python/tf/train/ClusterSpec
        """
        cluster = {"worker": self.cluster.get("chief", []) + self.cluster.get("worker", [])}
        if self.cluster.get("ps"):
            cluster["ps"] = list(self.cluster["ps"])
        return cluster

    def export_estimator_cluster(self):
        """Set `TF_CONFIG` for this task, and return (cluster, task type, task index), with the chief as "chief".

        A run without a cluster gets a `TF_CONFIG` too. An Estimator then takes the run for the chief of a cluster, and
        leaves evaluation to an evaluator:
        https://www.tensorflow.org/versions/r2.15/api_docs/python/tf/estimator/train_and_evaluate
        """
        cluster = {role: list(addresses) for role, addresses in self.cluster.items()}
        task = {"type": self.task_type, "index": self.task_index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        return cluster, self.task_type, self.task_index

    def get_node_type_count_map(self):
        """Return a dict, role -> number of its tasks; the chief counts as a worker."""
        return {role: len(addresses) for role, addresses in self.get_tf_cluster().items()}

    def get_current_attempt_index(self):
        """Return 0 in the first attempt at this run, 1 in the next …"""
        return self._config.attempt - 1

    # Names of later releases of Deep Learning on Flink.
    get_node_type = get_role_name
    get_tf_cluster_config = get_tf_cluster
    set_tf_config_env = export_estimator_cluster
    roleName = property(get_role_name)
    index = property(get_index)

    @property
    def properties(self):
        """Dict of the transform's `user_params`: a string as it is, another value as its JSON text."""
        params = self._config.user_params
        params = params if isinstance(params, dict) else {}
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in params.items()
        }

    def get_property(self, key):
        """Return one of `properties`.

        Raises:
          KeyError: there is no property of that name.
        """
        return self.properties[key]

    def flink_stream_dataset(self, compression_type=None, buffer_size=0, num_parallel_reads=None):
        """Return the run's rows as a Dataset of serialized Examples (`tf.string`, shape []).

        Returns `config.dataset_fn()`; in feed="dataset", a Dataset of `config.dataset_parts`.

        Args:
          compression_type, buffer_size, num_parallel_reads: ignored; scripts for other platforms give them.
        """
        if hasattr(self._config, "dataset_fn"):
            return self._config.dataset_fn()
        import tensorflow as tf

        return tf.data.TFRecordDataset(self._config.dataset_parts)

    get_tfdataset_from_flink = flink_stream_dataset

    def get_row_writer_to_flink(self):
        """Return a `FlinkRowWriter`; its `write(row)` takes a row's values in the order of the output schema."""
        from beam_tfscript.runtime.config.flink_tables import FlinkRowWriter

        return FlinkRowWriter(self)

    def output_writer_op(self, input_list):
        """Make operations that write rows, for a graph.

        Args:
          input_list: list of `tf.string` tensors of any shape, which hold serialized Examples.

        Returns:
          (operation that writes the Examples, operation that sends the written rows).
        """
        import tensorflow as tf

        return (
            tf.numpy_function(self._write_records, input_list, []),
            tf.numpy_function(self._flush, [], []),
        )

    def serve(self):
        """Serve as this task of the cluster until the cluster's work is done; see `Config.serve`."""
        self._config.serve()

    def _set_config(self, config):
        self.task_type = config.task_type
        self.task_index = config.task_index
        self.cluster = config.cluster
        self.num_workers = config.num_workers
        self.window = config.window
        self.input_schema = config.input_schema
        self.output_schema = config.output_schema
        self.output_writer = config.output_writer
        self._config = config

    def _write_records(self, *tensors):
        import numpy as np

        for tensor in tensors:
            # As objects: an array of fixed-width strings would cut zero bytes at an Example's end.
            for record in np.asarray(tensor, object).ravel().tolist():
                self.output_writer.write(record)

    def _flush(self):
        self.output_writer.flush()

    def __repr__(self):
        return "<TFContext {}:{} of {}>".format(self.task_type, self.task_index, self.cluster)
