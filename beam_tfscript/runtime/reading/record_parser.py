"""Parser of Examples in memory: lists of serialized Examples in, numpy arrays by column out."""

from beam_tfscript.runtime.reading.reader import translate_mismatch
from beam_tfscript.runtime.reading.unpacking import Unpacker
from beam_tfscript.runtime.tf import tf_versions


class RecordParser(object):
    """Parser of batches of records; its own graph and session leave the script's graph and eager state alone.

    Args:
      columns: list of the input schema's `Column`s.
      masks: as for `reader.numpy_batches`.
    """

    def __init__(self, columns, masks):
        import tensorflow as tf

        self._unpacker = Unpacker(list(columns), masks)
        graph = tf.Graph()
        with graph.as_default():
            serialized = tf.compat.v1.placeholder(tf.string, [None])
            tensors = list(self._unpacker.tensors(serialized))
        self._session = tf_versions.private_session(tf, graph)
        self._run = self._session.make_callable(tensors, feed_list=[serialized])

    def parse(self, records):
        """Parse a list of serialized Examples to a dict, column name -> numpy array.

        Raises:
          InputMismatch: a row does not fit its column, such as a null without `masks`.
        """
        import numpy as np
        import tensorflow as tf

        vector = np.empty(len(records), dtype=object)  # type: np.ndarray
        vector[:] = records
        return self._unpacker.unpack(translate_mismatch(tf, lambda: self._run(vector)))

    def close(self):
        """Close TensorFlow's session."""
        self._session.close()
