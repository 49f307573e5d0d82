"""Readers and writers of a run's rows, most for a TensorFlow 1 session, all driven by the schema.

In comes the context. Out go batches of numpy arrays by column until the rows end, and the rows that the script writes.
"""

from beam_tfscript.runtime.reading.unpacking import Unpacker
from beam_tfscript.runtime.tf import tf_versions

__all__ = ["FlinkReader", "FlinkRowWriter", "FlinkWriter"]


class FlinkReader(object):
    """Reads the run's rows in batches; made in the graph that the session runs, before that is final.

    Args:
      context: the `TFContext`.
      batch_size: rows in a batch; the last one may have fewer. It is waited for.
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
        """The next batch as a dict, column name -> numpy array; None when there are no more rows.

        Args:
          session: a session, monitored or not.
        """
        import tensorflow as tf

        try:
            return self._unpacker.unpack(session.run(self._following))
        except tf.errors.OutOfRangeError:
            return None


class FlinkWriter(object):
    """Writes rows of the output schema.

    Args:
      context: the `TFContext`.
    """

    def __init__(self, context):
        if context.output_schema is None:
            raise ValueError('FlinkWriter needs an output: give the transform output_schema="…"')
        self._columns = context.output_schema
        self._writer = context.output_writer

    def write_result(self, session, results):
        """Writes one row, or a batch of rows.

        Args:
          session: not needed; scripts give it.
          results: values by column: a dict, or a list or tuple in the order of the output schema. A batch has an
            equally long array for each column.

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
        """Sends on what is written; the output itself ends with the run."""
        self._writer.flush()

    def _by_name(self, results):
        if len(results) != len(self._columns):
            raise ValueError(
                "write_result() takes a value for each of {}, got {} values".format(
                    ", ".join(self._columns.names), len(results)
                )
            )
        return dict(zip(self._columns.names, results))

    def _is_row(self, values):
        """Whether the values are those of one row: each has as many dimensions as its column's type."""
        import numpy as np

        return all(
            values.get(column.name) is None or np.ndim(values[column.name]) == len(column.shape)
            for column in self._columns
        )


class FlinkRowWriter(object):
    """Writes rows of the output schema, one at a time and without a session.

    Args:
      context: the `TFContext`.
    """

    def __init__(self, context):
        self._writer = FlinkWriter(context)

    def write(self, row):
        """Writes a row.

        Args:
          row: its values in the order of the output schema, such as a tuple or a `pyflink.common.Row`.

        Raises:
          OutputMismatch: the row does not fit the output schema.
          ValueError: it has another number of values than the schema has columns.
        """
        self._writer.write_result(None, list(row))

    def close(self):
        """Sends on what is written; the output itself ends with the run."""
        self._writer.close()
