"""Config of a run in feed="dataset": its rows are in a file before `main` is called."""

from beam_tfscript.runtime.config.task_config import Config


class DatasetConfig(Config):
    """Config of a run whose rows are complete before `main` is called.

    Attributes:
      dataset_length: int, number of rows in `dataset_file`.
      output_writer: `write(example)` takes a `tf.train.Example` or its serialized bytes.
    """

    def __init__(self, request, writer, metrics, connection, frames):
        super(DatasetConfig, self).__init__(request, writer, metrics, connection, frames)
        # In `__dict__` as well: scripts for other platforms pass on `**config.__dict__`.
        self.__dict__["dataset_file"] = request["dataset_file"]
        self.dataset_length = request["dataset_length"]

    @property
    def dataset_file(self):
        """Path of an uncompressed TFRecord file with the run's rows, one serialized `tf.train.Example` per record.

        The file may be read any number of times. It is empty if the transform has no input.
        https://www.tensorflow.org/tutorials/load_data/tfrecord
        """
        self.has_read = True
        return self.__dict__["dataset_file"]

    @property
    def rows_in(self):
        """Number of rows that the run was given."""
        return self.dataset_length

    def dataset(self, batch_size, shuffle=0, repeat=1, masks=False, drop_remainder=False, exclude=()):
        """Return the rows as a `tf.data.Dataset` of dicts, column name -> tensor, parsed one batch at a time.

        Scalars have shape [batch], tensors [batch, *shape], arrays are a `tf.RaggedTensor`. Integers, floats and
        booleans have the column's dtype; strings, varbinary and decimals are `tf.string`. Date, time and timestamp
        are integers: days, or the column's unit.

        Args:
          batch_size: rows per batch.
          shuffle: size of the shuffle buffer in rows; 0 keeps the order.
          repeat: number of passes over the rows; None repeats forever.
          masks: adds `<name>__present` (bool, shape [batch]) for each column that may be null and has no default.
            A null is then a zero, an empty string or an empty array. Without masks, a null scalar or tensor is
            an error, and a null array is an empty one.
          drop_remainder: leaves out a last batch that is not full; the batch size is then static.
          exclude: list of column names to leave out.

        Raises:
          ValueError: an argument is out of range, `exclude` names no column, or the input has no schema.
          tf.errors.InvalidArgumentError: while iterating, a row does not fit its column, such as a null.
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
        """Return an iterator of the rows as dicts, column name -> numpy array of up to `n` rows.

        Scalars have shape [rows], tensors [rows, *shape]. Arrays are object arrays of shape [rows], which hold a 1-D
        numpy array per row. Dtypes are those of `dataset()`; strings are object arrays of bytes.

        Args:
          n: rows per batch; the last batch may have fewer.
          masks: as for `dataset()`.

        Raises:
          ValueError: `n` is not a positive integer, or the input has no schema.
          InputMismatch: while iterating, a row does not fit its column, such as a null without `masks`.
        """
        from beam_tfscript.runtime.reading import reader

        return reader.numpy_batches(self.dataset_file, self._input_columns("batches()"), n, masks=masks)

    def example_batches(self, n):
        """Return an iterator of the rows as lists of up to `n` serialized Examples (bytes).

        Raises:
          ValueError: `n` is not a positive integer.
        """
        from beam_tfscript.runtime.reading import reader

        return reader.record_batches(self.dataset_file, n)
