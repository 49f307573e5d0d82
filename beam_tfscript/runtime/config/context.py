"""The process's one TensorFlow context: which task of which cluster this process is."""

import json
import os

from beam_tfscript.runtime.config.current import get_config

__all__ = ["TFContext"]


class TFContext(object):
    """Where this process stands in its TensorFlow cluster.

    There is one for the run that is going on: `TFContext.get_or_create()` gives it anywhere in the
    script, and it is the same object as `config.tf_context`. A script may also construct it, once: `TFContext(config)`.

    The chief is worker 0 to scripts that ask for a role's name and an index; `task_type` and `task_index` are as in
    `TF_CONFIG`.

    Attributes:
      task_type, task_index, cluster, num_workers, window: as in the config.
      input_schema, output_schema, output_writer: as in the config.
      roleName, index: what `get_role_name()` and `get_index()` give.

    Raises:
      RuntimeError: it is constructed a second time, or no run is going on.
    """

    _current: "TFContext | None" = None
    _is_constructed = False

    def __new__(cls, config=None):
        if TFContext._is_constructed:
            raise RuntimeError(
                "there is one TFContext in a run, and it is constructed already: TFContext.get_or_create() gives it"
            )
        context = cls.get_or_create()
        TFContext._is_constructed = True
        return context

    def __init__(self, config=None):
        """Nothing: it is made with its run."""

    @classmethod
    def get_or_create(cls, config=None):
        """The context of the run that is going on; made from its config when first asked for.

        Args:
          config: what `main` was handed; not needed.

        Raises:
          RuntimeError: no run is going on.
        """
        if TFContext._current is None:
            if config is None:
                config = get_config()
            context = object.__new__(TFContext)
            context._take(config)
            TFContext._current = context
        return TFContext._current

    @classmethod
    def forget(cls):
        """Lets the next run have a context of its own."""
        TFContext._current = None
        TFContext._is_constructed = False

    def get_role_name(self):
        """`"worker"` or `"ps"` (or `"evaluator"`): the chief is a worker."""
        return "worker" if self.task_type == "chief" else self.task_type

    def get_index(self):
        """Which task of its role this is; the chief is worker 0."""
        behind_chief = self.task_type == "worker" and "chief" in self.cluster
        return self.task_index + 1 if behind_chief else self.task_index

    def get_tf_cluster(self):
        """The cluster as `tf.train.ClusterSpec` takes it, with the chief as worker 0: role -> list of addresses.

        Parameter servers that the runtime hosts know the chief by another name: a script that makes its servers of
        this is to be run with `ps_main=True`.
        """
        cluster = {"worker": self.cluster.get("chief", []) + self.cluster.get("worker", [])}
        if self.cluster.get("ps"):
            cluster["ps"] = list(self.cluster["ps"])
        return cluster

    def export_estimator_cluster(self):
        """Sets `TF_CONFIG` for this task, and returns (cluster, task type, task index), all in TensorFlow's own form.

        Also for a run that is alone: told that it is the chief of a cluster, an Estimator leaves evaluation out.
        """
        cluster = {role: list(addresses) for role, addresses in self.cluster.items()}
        task = {"type": self.task_type, "index": self.task_index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        return cluster, self.task_type, self.task_index

    def get_node_type_count_map(self):
        """Role -> how many tasks it has, the chief among the workers."""
        return {role: len(addresses) for role, addresses in self.get_tf_cluster().items()}

    def get_current_attempt_index(self):
        """0 for the first try of this run, 1 for the next …"""
        return self._config.attempt - 1

    # What later releases of dl-on-flink call them.
    get_node_type = get_role_name
    get_tf_cluster_config = get_tf_cluster
    set_tf_config_env = export_estimator_cluster
    roleName = property(get_role_name)
    index = property(get_index)

    @property
    def properties(self):
        """The transform's `user_params`, each as a string: strings as they are, others as JSON text."""
        params = self._config.user_params
        params = params if isinstance(params, dict) else {}
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in params.items()
        }

    def get_property(self, key):
        """One of `properties`.

        Raises:
          KeyError: there is none of that name.
        """
        return self.properties[key]

    def flink_stream_dataset(self, compression_type=None, buffer_size=0, num_parallel_reads=None):
        """The run's rows as a Dataset of serialized Examples, by the name that established scripts know it by.

        The same as `config.dataset_fn()`; where the rows are complete before `main`, a Dataset of their file.

        Args:
          compression_type, buffer_size, num_parallel_reads: not looked at.
        """
        if hasattr(self._config, "dataset_fn"):
            return self._config.dataset_fn()
        import tensorflow as tf

        return tf.data.TFRecordDataset(self._config.dataset_file)

    get_tfdataset_from_flink = flink_stream_dataset

    def get_row_writer_to_flink(self):
        """A writer whose `write(row)` takes the values of a row in the order of the output schema."""
        from beam_tfscript.runtime.config.flink_tables import FlinkRowWriter

        return FlinkRowWriter(self)

    def output_writer_op(self, input_list):
        """Operations that write rows, for a graph.

        Args:
          input_list: list of string tensors that hold serialized Examples.

        Returns:
          (operation that writes all of them, operation that sends on what is written).
        """
        import tensorflow as tf

        return (
            tf.numpy_function(self._write_records, input_list, []),
            tf.numpy_function(self._flush, [], []),
        )

    def serve(self):
        """Serves as this task of the cluster, until the cluster's work is done."""
        self._config.serve()

    def _take(self, config):
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
            # As objects: an array of fixed-width strings would lose the zeros at an Example's end.
            for record in np.asarray(tensor, object).ravel().tolist():
                self.output_writer.write(record)

    def _flush(self):
        self.output_writer.flush()

    def __repr__(self):
        return "<TFContext {}:{} of {}>".format(self.task_type, self.task_index, self.cluster)
