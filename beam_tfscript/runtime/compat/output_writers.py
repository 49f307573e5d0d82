"""`akdl.runner.output_writer`: classes of `config.output_writer`, for scripts that name or instantiate them."""

import logging
from abc import ABCMeta

from beam_tfscript.runtime.config.current import get_config
from beam_tfscript.runtime.writing import writer

__all__ = ["DirectOutputWriter", "OutputWriter", "get_fake_output_writer"]

_LOGGER = logging.getLogger(__name__)


class OutputWriter(metaclass=ABCMeta):  # noqa: B024 - for register()
    """Writer of Examples by an operation, in a graph and a session of its own.

    Args:
      output_writer_op: function, list of one string tensor -> (operation that writes, operation that closes), such
        as `tf_context.output_writer_op`.
    """

    def __init__(self, output_writer_op):
        import tensorflow as tf

        graph = tf.Graph()
        with graph.as_default():
            self._record = tf.compat.v1.placeholder(tf.string)
            self._write, self._close = output_writer_op([self._record])
        self._session = tf.compat.v1.Session(graph=graph)

    def write(self, example):
        """Write one `tf.train.Example`."""
        self._session.run(self._write, {self._record: example.SerializeToString()})

    def close(self):
        """Send the written rows, and close the session."""
        self._session.run(self._close)
        self._session.close()


class DirectOutputWriter(metaclass=ABCMeta):  # noqa: B024 - for register()
    """Writer of Examples without TensorFlow; `config.output_writer` counts as an instance for `isinstance`.

    Args:
      *addresses: ignored; Alink's scripts give addresses of its queues.
    """

    def __init__(self, *addresses):
        self._writer = get_config().output_writer

    def write(self, example):
        """Write one `tf.train.Example`."""
        self._writer.write(example)

    def close(self):
        """Send the written rows."""
        self._writer.flush()


class _LoggingWriter(object):
    """Writer that logs the Examples."""

    def write(self, example):
        _LOGGER.info("%s", example)

    def close(self):
        """Do nothing."""


def get_fake_output_writer():
    """Return a writer for experiments: it logs the Examples that it gets."""
    return _LoggingWriter()


OutputWriter.register(writer.OutputWriter)
DirectOutputWriter.register(writer.OutputWriter)
