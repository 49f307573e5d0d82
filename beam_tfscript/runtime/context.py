"""The process's one TensorFlow context: which task of which cluster this process is."""


class TFContext(object):
    """Where this process stands in its TensorFlow cluster.

    There is one for the run that is going on: `TFContext.get_or_create()` gives it anywhere in the
    script, and it is the same object as `config.tf_context`.

    Attributes:
      task_type, task_index, cluster, num_workers, window: as in the config.
    """

    _current = None

    def __init__(self, config):
        self.task_type = config.task_type
        self.task_index = config.task_index
        self.cluster = config.cluster
        self.num_workers = config.num_workers
        self.window = config.window
        self._config = config

    def flink_stream_dataset(self):
        """The same Dataset as `config.dataset_fn()`, by the name that established scripts know it by."""
        return self._config.dataset_fn()

    @classmethod
    def get_or_create(cls, config=None):
        """The context of the run that is going on; made from its config when first asked for.

        Raises:
          RuntimeError: no run is going on.
        """
        if cls._current is None:
            if config is None:
                from beam_tfscript.runtime.config import get_config

                config = get_config()
            cls._current = cls(config)
        return cls._current

    @classmethod
    def forget(cls):
        """Lets the next run have a context of its own."""
        cls._current = None

    def __repr__(self):
        return "<TFContext {}:{} of {}>".format(self.task_type, self.task_index, self.cluster)
