"""Configs of feed="bundles" and feed="stream": rows come during the run, and a request for more acknowledges them."""

from beam_tfscript.runtime.config.config_values import Window
from beam_tfscript.runtime.config.task_config import Config
from beam_tfscript.runtime.reading.feed import Feed, FeedMisused
from beam_tfscript.runtime.writing.writer import Flusher


class FeedConfig(Config):
    """Config of a run whose rows come during the run; common to both feeds."""

    _fills_batches = True

    def __init__(self, request, writer, metrics, connection, frames):
        super(FeedConfig, self).__init__(request, writer, metrics, connection, frames)

        # Before each ACK: the pipeline never repeats rows that are acknowledged, so their outputs must be sent first.
        def flush():
            writer.flush()
            metrics.flush()

        self.feed = Feed(connection, frames, flush, self._fills_batches)  # type: Feed
        self.has_read = True  # a run that ends well has read all rows of its feed, or has called stop()

    @property
    def rows_in(self):
        """Number of rows that the script was given."""
        return self.feed.taken

    def batches(self, n, masks=False):
        """Iterate over the rows as dicts, column name -> numpy array of up to `n` rows.

        The request for the next batch acknowledges the one before. So write a batch's outputs before the next
        iteration. Rows that are not acknowledged are repeated if the process dies.

        Args:
          n: rows per batch. In feed="bundles" a batch waits for `n` rows; only the last of a bundle or a window may
            have fewer. In feed="stream" a batch has the rows that are there, at least one, and waits for no more.
          masks: adds `<name>__present` (bool, shape [rows]) for each column that may be null and has no default.
            A null is then a zero, an empty string or an empty array. Without masks, a null scalar or tensor is
            an error, and a null array is an empty one.

        Yields:
          A dict per batch. Scalars have shape [rows], tensors [rows, *shape]. Arrays are object arrays of shape
          [rows], which hold a 1-D numpy array per row. Strings are object arrays of bytes; date, time and timestamp
          are integers: days, or the column's unit.

        Raises:
          ValueError: `n` is not a positive integer, or the input has no schema.
          InputMismatch: a row does not fit its column, such as a null without `masks`.
          FeedMisused: the run reads by `datasets()` as well.
          ForkedError: the process is a child that the script forked.
        """
        from beam_tfscript.runtime.reading.reader import check_rows
        from beam_tfscript.runtime.reading.record_parser import RecordParser

        columns = self._input_columns("batches()")
        check_rows("n", n, 1)
        parser = RecordParser(columns, masks)
        try:
            for records in self.example_batches(n):
                # Without a variable, which would hold this batch in memory while the next one is awaited.
                yield parser.parse(records)
        finally:
            parser.close()

    def example_batches(self, n):
        """Iterate over the rows as lists of up to `n` serialized Examples (bytes); otherwise as `batches()`."""
        from beam_tfscript.runtime.reading.reader import check_rows

        check_rows("n", n, 1)
        while True:
            records = self.feed.take(n)
            if records is None:
                return
            self._enter_window()
            yield records

    def stop(self):
        """End the feed: the script gets no more rows, and `main` may return.

        Unread rows are counted as `rows_unread`, and are not given to another run.

        Raises:
          ForkedError: the process is a child that the script forked.
        """
        self.feed.stop()

    def _enter_window(self):
        """Set the window to that of the last rows, in feeds whose window changes."""


class BundlesConfig(FeedConfig):
    """Config of a run in feed="bundles": one call of `main` serves all bundles that its process gets.

    Attributes:
      window: `Window` of the last batch's rows, in seconds since 1970-01-01 UTC; None in the global window.
    """

    def datasets(self):
        """Iterate over the bundles, each as one finite `tf.data.Dataset` of serialized Examples.

        A bundle with rows of several windows gives a Dataset per window. A Dataset can be read any number of times
        until the next one is requested, which acknowledges it. In graph mode it belongs to the default graph of the
        time of the request.

        Yields:
          A `tf.data.TFRecordDataset` (`tf.string`, shape []).
          https://www.tensorflow.org/api_docs/python/tf/data/TFRecordDataset

        Raises:
          FeedMisused: the run reads by `batches()` as well.
          ForkedError: the process is a child that the script forked.
        """
        import tensorflow as tf

        while True:
            dataset = self.feed.take_dataset()
            if dataset is None:
                return
            self._enter_window()
            self._dataset = dataset
            yield tf.data.TFRecordDataset(dataset[0])

    @property
    def dataset_file(self):
        """Path of a TFRecord file with the bundle's rows, inside a loop over `datasets()`.

        Raises:
          RuntimeError: no bundle was requested by `datasets()`.
        """
        return self._current_dataset()[0]

    @property
    def dataset_length(self):
        """Number of rows in `dataset_file`, inside a loop over `datasets()`; raises as `dataset_file` does."""
        return self._current_dataset()[1]

    def dataset_fn(self):
        """Refuse: one Dataset for the whole run would read ahead into the next bundle.

        Raises:
          FeedMisused: always; the message names the alternatives.
        """
        raise FeedMisused(
            "config.dataset_fn() is one Dataset for the whole run, which would read ahead from one bundle into the "
            'next: it is there in feed="stream". In feed="bundles", loop over config.datasets(), which gives a Dataset '
            "per bundle, or over config.batches(n)."
        )

    def dataset(self, *args, **kwargs):
        """Refuse: a Dataset of parsed batches would read ahead into the next bundle.

        Raises:
          FeedMisused: always; the message names the alternatives.
        """
        raise FeedMisused(
            'config.dataset() reads ahead, which would mix bundles: in feed="bundles", loop over config.batches(n) '
            "or config.datasets()."
        )

    def _enter_window(self):
        self.window = _window(self.feed.window)
        self.tf_context.window = self.window

    def _current_dataset(self):
        dataset = getattr(self, "_dataset", None)
        if dataset is None:
            raise RuntimeError('in feed="bundles" there is a dataset_file only inside a loop over config.datasets()')
        return dataset


class StreamConfig(FeedConfig):
    """Config of a run in feed="stream": rows come until the window or the input ends.

    Attributes:
      output_writer: `write(example)` takes a `tf.train.Example` or its serialized bytes. A row is sent about
        0.02 s after it was written.
    """

    # A row would wait for rows that may never come.
    _fills_batches = False

    def __init__(self, request, writer, metrics, connection, frames):
        super(StreamConfig, self).__init__(request, writer, metrics, connection, frames)
        self._was_scanned = False
        # A thread of TensorFlow asks for rows ahead of the script. Outputs that the script writes after that would wait
        # until the next rows come.
        self.flusher = Flusher(writer)

    def dataset_fn(self):
        """Return the rows as an open-ended `tf.data.Dataset` of serialized Examples, which can be read once.

        Each row comes as soon as it arrives; no buffer is filled first. The Dataset ends when the window or the input
        ends. A second Dataset is empty, and so is a second pass over the first.

        Returns:
          A Dataset (`tf.string`, shape []) of the default graph.
        """
        import tensorflow as tf

        from beam_tfscript.runtime.tf import tf_versions

        with tf_versions.in_default_graph(tf):
            vectors = tf.data.Dataset.from_generator(self._vectors, tf.string, tf.TensorShape([None]))
            return tf_versions.one_record_each(tf, vectors)

    def dataset(self, batch_size, shuffle=0, masks=False, drop_remainder=False, exclude=()):
        """Return the rows as an open-ended `tf.data.Dataset` of dicts, as `DatasetConfig.dataset` does.

        Args:
          batch_size: rows per batch; a batch waits until it is full.
          shuffle: size of the shuffle buffer in rows; 0 keeps the order.
          masks, drop_remainder, exclude: as in `DatasetConfig.dataset`.

        Raises:
          ValueError: an argument is out of range, `exclude` names no column, or the input has no schema.
        """
        from beam_tfscript.runtime.reading import reader

        return reader.parsed_dataset(
            self.dataset_fn(),
            self._input_columns("dataset()"),
            batch_size,
            shuffle=shuffle,
            masks=masks,
            drop_remainder=drop_remainder,
            exclude=exclude,
            # A prefetched batch would wait until the next batch is full.
            prefetch=0,
        )

    def _vectors(self):
        import numpy as np

        if self._was_scanned:
            self.feed.asked_again = True
            return
        self._was_scanned = True
        while True:
            records = self.feed.take_any()
            if records is None:
                return
            # As objects: numpy would make fixed-width strings of a list of bytes, and cut zero bytes at the end.
            vector = np.empty(len(records), dtype=object)  # type: np.ndarray
            vector[:] = records
            yield vector


def _window(bounds):
    return None if bounds is None else Window(*bounds)
