"""The config of a run whose rows come while it goes on: in the feeds `bundles` and `stream`."""

from beam_tfscript.runtime.config.task_config import TaskConfig, Window
from beam_tfscript.runtime.reading.feed import Feed, FeedMisused
from beam_tfscript.runtime.writing.writer import Flusher


class FeedTaskConfig(TaskConfig):
    """What the configs of both feeds have: rows that are asked for, and an end that can be asked for too."""

    _fills_batches = True

    def __init__(self, request, writer, metrics, connection, frames):
        super(FeedTaskConfig, self).__init__(request, writer, metrics)

        def flush():
            writer.flush()
            metrics.flush()

        self.feed = Feed(connection, frames, flush, self._fills_batches)  # type: Feed
        self.has_read = True  # a run that ends well has read all rows of its feed

    @property
    def rows_in(self):
        """How many rows the script was handed."""
        return self.feed.taken

    def batches(self, n, masks=False):
        """The rows as dicts, column name -> numpy array of up to `n` rows.

        Asking for the next batch says that the one before is done: write what it gives before that.

        Args:
          n: rows in a batch. In feed="bundles" it is filled, and only the last of a bundle may have fewer; in
            feed="stream" it is what is there, as no row waits for another.
          masks: adds `<name>__present` (bool) for each column that may be null and has no default, and
            gives a zero, or an empty array, where it is. Without it a null scalar is an error.

        Yields:
          A dict a batch. Strings are arrays of bytes, as TensorFlow gives them.
        """
        from beam_tfscript.runtime.reading.record_parser import RecordParser

        columns = self._input_columns("batches()")
        _check_rows(n)
        parser = RecordParser(columns, masks)
        try:
            for records in self.example_batches(n):
                # Not by way of a variable, which would hold this batch while the next one is waited for.
                yield parser.parse(records)
        finally:
            parser.close()

    def example_batches(self, n):
        """The rows as lists of up to `n` serialized Examples; otherwise as `batches()`."""
        _check_rows(n)
        while True:
            records = self.feed.take(n)
            if records is None:
                return
            self._enter_window()
            yield records

    def stop(self):
        """Ends the feed in order: no more rows are handed out, and `main` may return.

        The rows that are not read then are counted as `rows_unread`, and are not given to another run.
        """
        self.feed.stop()

    def _enter_window(self):
        """Takes over the window of the rows handed out last, where the feed says one."""


class BundleTaskConfig(FeedTaskConfig):
    """The config of a run in the `bundles` feed: `main` lives as long as its process, from bundle to bundle.

    Attributes:
      window: the window of the last batch's rows.
      dataset_file, dataset_length: in a loop over `datasets()`, the bundle as a TFRecord file, and its rows.
    """

    def datasets(self):
        """The rows as one finite `tf.data.Dataset` of serialized Examples for each bundle (and window in it).

        It can be gone through any number of times until the next one is asked for, which says that
        this one is done. In graph mode it is made in the graph that is the default one when it is asked for.

        Yields:
          A `tf.data.TFRecordDataset`.
        """
        import tensorflow as tf

        while True:
            found = self.feed.take_dataset()
            if found is None:
                return
            self._enter_window()
            self._dataset = found
            yield tf.data.TFRecordDataset(found[0])

    @property
    def dataset_file(self):
        """Path of a TFRecord file with the bundle's rows, in a loop over `datasets()`."""
        return self._current_dataset()[0]

    @property
    def dataset_length(self):
        """How many rows the bundle has, in a loop over `datasets()`."""
        return self._current_dataset()[1]

    def dataset_fn(self):
        """Not in this feed.

        Raises:
          FeedMisused: always; it says what to do.
        """
        raise FeedMisused(
            "config.dataset_fn() is one Dataset for the whole run, which would read ahead from one bundle into the "
            'next: it is there in feed="stream". In feed="bundles", loop over config.datasets(), which gives a Dataset '
            "a bundle, or over config.batches(n)."
        )

    def dataset(self, *args, **kwargs):
        """Not in this feed.

        Raises:
          FeedMisused: always; it says what to do.
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


class StreamTaskConfig(FeedTaskConfig):
    """The config of a run in the `stream` feed: its rows come until its window ends, or the input does.

    Attributes:
      output_writer: `write(example)` takes a `tf.train.Example` or its bytes; what is written leaves soon.
    """

    # A row would wait for others that may never come.
    _fills_batches = False

    def __init__(self, request, writer, metrics, connection, frames):
        super(StreamTaskConfig, self).__init__(request, writer, metrics, connection, frames)
        self._was_scanned = False
        # TensorFlow asks for rows from a thread of its own, ahead of the script: what the script writes
        # then would wait until the next rows come.
        self.flusher = Flusher(writer)

    def dataset_fn(self):
        """The rows as an open-ended `tf.data.Dataset` of serialized Examples, to be gone through once.

        A row is handed out as soon as it is there; no buffer is filled first. It ends when the window or the
        input does. A second Dataset, and a second pass over the first, is empty.

        Returns:
          A Dataset of scalar strings, of the graph that is the default one.
        """
        import tensorflow as tf

        from beam_tfscript.runtime.tf import tf_versions

        with tf_versions.in_default_graph(tf):
            vectors = tf.data.Dataset.from_generator(self._vectors, tf.string, tf.TensorShape([None]))
            return tf_versions.one_record_each(tf, vectors)

    def dataset(self, batch_size, shuffle=0, masks=False, drop_remainder=False, exclude=()):
        """The rows as an open-ended `tf.data.Dataset` of dicts, column name -> tensor, parsed a batch at a time.

        Args:
          batch_size: rows in a batch; it is waited for.
          shuffle: size of the shuffle buffer in rows; 0 keeps the order.
          masks, drop_remainder, exclude: as in `BatchTaskConfig.dataset`.
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
            # A batch that is held ready is a batch whose rows wait for those of the next.
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
            # A list of one bytes object would be taken for a fixed-width string, and lose zeros at its end.
            vector = np.empty(len(records), dtype=object)  # type: np.ndarray
            vector[:] = records
            yield vector


def _window(bounds):
    return None if bounds is None else Window(*bounds)


def _check_rows(n):
    import numbers

    if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 1:
        raise ValueError("`n` must be a whole number of at least 1, got {!r}".format(n))
