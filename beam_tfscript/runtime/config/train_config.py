"""The config of a training: what a script trains with beside its rows, and how it tells what it has made."""

import os
import shutil
import time

from beam_tfscript.runtime.config.feed_config import StreamTaskConfig
from beam_tfscript.runtime.config.task_config import BatchTaskConfig
from beam_tfscript.runtime.tf import saved_model
from beam_tfscript.runtime.transport import wire

# The course of a training is for looking at: of a longer one the newest part is kept.
MAX_REPORTS = 10000


def _numbers(values):
    numbers = {}
    for name, value in values.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError) as error:
            raise TypeError("report() takes numbers, got {}={!r}".format(name, value)) from error
    return numbers


class _Training(object):
    """What both kinds of training have.

    Attributes:
      saved_model_dir: a directory, not there yet, that the SavedModel is exported to: itself, or a directory under it.
      checkpoint_dir: a directory that lasts when the training is repeated; where a URI was given, for longer.
    """

    def _take_training(self, request, connection):
        self.saved_model_dir = request["saved_model_dir"]
        self.checkpoint_dir = request["checkpoint_dir"]
        # Scripts for other platforms look whether they are to keep their last checkpoint; here the directory above is.
        self.latest_ckpt_dir = None
        self._connection = connection

    def report(self, **values):
        """Says how the training goes, such as `config.report(loss=0.3, step=100)`.

        The last value of each name, and the course of them all, are in the row that the transform gives.

        Args:
          **values: numbers.

        Raises:
          TypeError: one of them is no number.
        """
        self._connection.report(wire.REPORT, _numbers(values))


class TrainTaskConfig(BatchTaskConfig, _Training):
    """The config of a training whose rows are complete before `main` is called.

    Attributes:
      dataset_lengths: how many rows each worker has, the chief first: strategies that go in step need steps for
        the smallest, or for the largest with `repeat()`.
      dataset_files: the TFRecord file of each worker, the chief first, for a coordinator that deals rows out itself.
    """

    def __init__(self, request, writer, metrics, connection):
        super(TrainTaskConfig, self).__init__(request, writer, metrics)
        self._take_training(request, connection)
        self.dataset_files = request["dataset_files"]


class StreamTrainTaskConfig(StreamTaskConfig, _Training):
    """The config of a training whose rows come while it goes on; it exports a model now and then."""

    def __init__(self, request, writer, metrics, connection, frames):
        super(StreamTrainTaskConfig, self).__init__(request, writer, metrics, connection, frames)
        self._take_training(request, connection)
        # A worker's models are copies of the chief's, saved because its strategy wants all to save.
        self._is_chief = self.task_type == "chief"
        # Models that other attempts at the same rows have exported count too.
        self._exports = request["exports"]
        self._directories = 1
        self._reports = []  # type: list
        self._begin = time.time()

    def report(self, **values):
        """Says how the training goes; what was said is in the row of each model that is exported after it."""
        self._connection.check_owner("config.report()")
        self._reports = (self._reports + [_numbers(values)])[-MAX_REPORTS:]

    def export(self):
        """Says that the SavedModel in `saved_model_dir` is complete: it becomes the next version of `model_dir`.

        `saved_model_dir` is another directory after this. In a cluster only the chief's models are published; on other
        tasks this just moves on to the next directory.

        Raises:
          SavedModelError: there is no SavedModel there, or it cannot be used.
        """
        if self._is_chief:
            self._publish()
        else:
            shutil.rmtree(self.saved_model_dir, ignore_errors=True)
        self._directories += 1
        parent = os.path.dirname(self.saved_model_dir)
        self.saved_model_dir = os.path.join(parent, "model-{}".format(self._directories))

    def finish(self):
        """Publishes what `main` has exported and not said that it is complete.

        Raises:
          SavedModelError: the training has exported nothing at all.
        """
        if self._is_chief and (not self._exports or saved_model.has_export(self.saved_model_dir)):
            self.export()

    def _publish(self):
        path = saved_model.find_export(self.saved_model_dir)
        described = saved_model.describe(path)
        self._exports += 1
        exported = {
            "path": path,
            "signatures": described,
            "number": self._exports,
            "rows": self.feed.taken,
            "seconds": time.time() - self._begin,
            "attempt": self.attempt,
            "reports": self._reports,
        }
        self._connection.report(wire.EXPORT, exported)
