"""Config of a run in feed="dataset": its rows are in a file before `main` is called."""

import os
import shutil

from beam_tfscript.runtime.config.task_config import Config

# The attributes of an object, where a class has a property of that name.
_ATTRIBUTES = Config.__dict__["__dict__"]


class DatasetConfig(Config):
    """Config of a run whose rows are complete before `main` is called.

    Attributes:
      dataset_length: int, number of rows of the run.
      output_writer: `write(example)` takes a `tf.train.Example` or its serialized bytes.
    """

    def __init__(self, request, writer, metrics, connection, frames):
        super(DatasetConfig, self).__init__(request, writer, metrics, connection, frames)
        self._rows = Rows(request)
        self.dataset_length = request["dataset_length"]

    @property
    def dataset_file(self):
        """Path of an uncompressed TFRecord file with the run's rows, one serialized `tf.train.Example` per record.

        The file may be read any number of times. It is empty if the transform has no input. If the rows are in several
        files, `dataset_parts`, this file is made of them when it is first asked for.
        https://www.tensorflow.org/tutorials/load_data/tfrecord

        Raises:
          OSError: the file cannot be made.
        """
        self.has_read = True
        return self._rows.whole()

    @property
    def dataset_parts(self):
        """List of paths of the TFRecord files that hold the run's rows together; `TFRecordDataset` takes the list.

        Rows that came through the shuffle are in one file. Rows that were spooled are in files of some 64 MiB.
        """
        self.has_read = True
        return list(self._rows.parts)

    @property
    def __dict__(self):  # type: ignore[override]
        # With `dataset_file`: scripts for other platforms pass on `**config.__dict__`.
        attributes = _ATTRIBUTES.__get__(self)
        if "_rows" in attributes:
            attributes["dataset_file"] = attributes["_rows"].whole()
        return attributes

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
            self.dataset_parts,
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

        return reader.numpy_batches(self.dataset_parts, self._input_columns("batches()"), n, masks=masks)

    def example_batches(self, n):
        """Return an iterator of the rows as lists of up to `n` serialized Examples (bytes).

        Raises:
          ValueError: `n` is not a positive integer.
        """
        from beam_tfscript.runtime.reading import reader

        return reader.record_batches(self.dataset_parts, n)


class Rows(object):
    """The TFRecord files of one worker's rows, and one file of all of them.

    Attributes:
      parts: list of the files' paths; None of rows that are on another machine.

    Args:
      request: dict with `dataset_parts` and `dataset_file`.
    """

    def __init__(self, request):
        self.parts = request["dataset_parts"]
        self._whole = request["dataset_file"]

    def whole(self):
        """Return the path of the one file, which is made the first time; other tasks may make it too.

        Raises:
          OSError: the file cannot be made.
        """
        if self.parts is not None and not os.path.exists(self._whole):
            unfinished = "{}.{}".format(self._whole, os.getpid())
            with open(unfinished, "wb") as target:
                for part in self.parts:
                    with open(part, "rb") as source:
                        shutil.copyfileobj(source, target, 1 << 20)
            os.rename(unfinished, self._whole)
        return self._whole
