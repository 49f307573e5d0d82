"""Readers and writers of a run's rows for scripts of Deep Learning on Flink, most with a TensorFlow 1 session.

In comes the context. Out go batches of numpy arrays by column; the writers take the script's rows.
"""

from beam_tfscript.runtime.reading.unpacking import Unpacker
from beam_tfscript.runtime.tf import tf_versions

__all__ = ["FlinkReader", "FlinkRowWriter", "FlinkWriter"]


class FlinkReader(object):
    """Reader of the run's rows in batches; made in the session's graph, before the graph is finalized.

    Args:
      context: the `TFContext`.
      batch_size: rows per batch. A batch waits until it is full; the last one may have fewer rows.

    Raises:
      ValueError: the input has no schema.
    """

    def __init__(self, context, batch_size=1):
        import tensorflow as tf

        columns = context.input_schema
        if columns is None:
            raise ValueError(
                "FlinkReader needs to know the columns, and the input came as serialized Examples without a schema: "
                'give the transform input_schema="…"'
            )
        self._unpacker = Unpacker(columns, masks=False)
        parse = tf_versions.as_plain_function(tf, self._unpacker.tensors)
        batches = context.flink_stream_dataset().batch(batch_size).map(parse)
        self._following = list(tf.compat.v1.data.make_one_shot_iterator(batches).get_next())

    def next_batch(self, session):
        """Return the next batch as a dict, column name -> numpy array as in `config.batches()`; None after the last.

        Args:
          session: a `tf.compat.v1.Session` or `MonitoredSession`.

        Raises:
          InputMismatch: a row does not fit its column.
        """
        import tensorflow as tf

        try:
            return self._unpacker.unpack(session.run(self._following))
        except tf.errors.OutOfRangeError:
            return None


class FlinkWriter(object):
    """Writer of rows of the output schema.

    Args:
      context: the `TFContext`.

    Raises:
      ValueError: the transform has no output schema.
    """

    def __init__(self, context):
        if context.output_schema is None:
            raise ValueError('FlinkWriter needs an output: give the transform output_schema="…"')
        self._columns = context.output_schema
        self._writer = context.output_writer

    def write_result(self, session, results):
        """Write one row, or a batch of rows.

        Args:
          session: ignored; scripts give it.
          results: one value per column: a dict, or a list or tuple in the order of the output schema. In a batch each
            value is an array, whose first axis is the rows; all of one length.

        Raises:
          OutputMismatch: the rows do not fit the output schema.
          ValueError: a list is of another length than the schema.
        """
        values = results if isinstance(results, dict) else self._by_name(results)
        if self._is_row(values):
            self._writer.write_row(values)
        else:
            self._writer.write_columns(values)

    def close(self, session=None):
        """Send the written rows; the output itself ends with the run."""
        self._writer.flush()

    def _by_name(self, results):
        if len(results) != len(self._columns):
            raise ValueError(
                "write_result() takes one value for each of {}, got {} values".format(
                    ", ".join(self._columns.names), len(results)
                )
            )
        return dict(zip(self._columns.names, results))

    def _is_row(self, values):
        """Return True if the values are those of one row: each has as many dimensions as its column's type."""
        import numpy as np

        return all(
            values.get(column.name) is None or np.ndim(values[column.name]) == len(column.shape)
            for column in self._columns
        )


class FlinkRowWriter(object):
    """Writer of rows of the output schema, one at a time and without a session.

    Args:
      context: the `TFContext`.

    Raises:
      ValueError: the transform has no output schema.
    """

    def __init__(self, context):
        self._writer = FlinkWriter(context)

    def write(self, row):
        """Write one row.

        Args:
          row: values in the order of the output schema, such as a tuple or a `pyflink.common.Row`.

        Raises:
          OutputMismatch: the row does not fit the output schema.
          ValueError: the number of values is not the schema's number of columns.
        """
        self._writer.write_result(None, list(row))

    def close(self):
        """Send the written rows; the output itself ends with the run."""
        self._writer.close()
