"""`akdl.runner.output_writer`: the classes of what `config.output_writer` is, for scripts that name or make them."""

import logging
from abc import ABCMeta

from beam_tfscript.runtime.config.current import get_config
from beam_tfscript.runtime.writing import writer

__all__ = ["DirectOutputWriter", "OutputWriter", "get_fake_output_writer"]

_LOGGER = logging.getLogger(__name__)


class OutputWriter(metaclass=ABCMeta):  # noqa: B024 - for register()
    """Writes Examples by an operation, in a graph and a session of its own.

    Args:
      output_writer_op: takes a list of one string tensor, gives (operation that writes, operation that closes), such
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
        """Writes one `tf.train.Example`."""
        self._session.run(self._write, {self._record: example.SerializeToString()})

    def close(self):
        """Sends on what is written, and ends the session."""
        self._session.run(self._close)
        self._session.close()


class DirectOutputWriter(metaclass=ABCMeta):  # noqa: B024 - for register()
    """Writes Examples without TensorFlow: what `config.output_writer` is.

    Args:
      *addresses: of the platform this name is from; not looked at.
    """

    def __init__(self, *addresses):
        self._writer = get_config().output_writer

    def write(self, example):
        """Writes one `tf.train.Example`."""
        self._writer.write(example)

    def close(self):
        """Sends on what is written."""
        self._writer.flush()


class _LoggingWriter(object):
    """Logs what it is given."""

    def write(self, example):
        _LOGGER.info("%s", example)

    def close(self):
        """Nothing is left to do."""


def get_fake_output_writer():
    """A writer for trying things out: it logs the Examples it is given."""
    return _LoggingWriter()


OutputWriter.register(writer.OutputWriter)
DirectOutputWriter.register(writer.OutputWriter)
