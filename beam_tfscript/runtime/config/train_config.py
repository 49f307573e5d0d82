"""Configs of trainings: directories for checkpoints and models, reports of progress, and exports."""

import os
import shutil
import time

from beam_tfscript.runtime.config.dataset_config import DatasetConfig, Rows
from beam_tfscript.runtime.config.feed_config import StreamConfig
from beam_tfscript.runtime.tf import saved_model
from beam_tfscript.runtime.transport import wire

# Reports kept per training. They are all in one row, whose size must be bounded; of more, the newest are kept.
MAX_REPORTS = 10000


def _numbers(values):
    numbers = {}
    for name, value in values.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError) as error:
            raise TypeError("config.report() takes numbers, got {}={!r}".format(name, value)) from error
    return numbers


class _Training(object):
    """Attributes that both kinds of training have.

    Attributes:
      saved_model_dir: path to export the SavedModel to, or to a directory below it. It does not exist yet.
        https://www.tensorflow.org/guide/saved_model
      checkpoint_dir: path of a directory that outlasts an attempt. If the transform has a URI, it outlasts the job.
      latest_ckpt_dir: None; scripts for Alink test it. Use `checkpoint_dir`.
    """

    def _set_training(self, request, connection):
        self.saved_model_dir = request["saved_model_dir"]
        self.checkpoint_dir = request["checkpoint_dir"]
        self.latest_ckpt_dir = None
        self._connection = connection

    def report(self, **values):
        """Report the training's progress, such as `config.report(loss=0.3, step=100)`.

        The transform's output row has the last value of each name, and the last 10,000 reports.

        Args:
          **values: numbers, or arrays and eager tensors of one number.

        Raises:
          TypeError: a value is not a number.
          ForkedError: the process is a child that the script forked.
        """
        self._connection.send_control(wire.REPORT, _numbers(values))


class TrainConfig(DatasetConfig, _Training):
    """Config of a training whose rows are complete before `main` is called.

    Attributes:
      dataset_lengths: list of int, number of rows of each worker, the chief first. Synchronous strategies need the
        same number of steps on each worker: steps for the smallest, or for the largest with `repeat()`.
    """

    def __init__(self, request, writer, metrics, connection, frames):
        super(TrainConfig, self).__init__(request, writer, metrics, connection, frames)
        self._set_training(request, connection)
        self._rows_of_workers = [Rows(worker) for worker in request["dataset_of_workers"]]

    @property
    def dataset_files(self):
        """List of paths, the TFRecord file of each worker, the chief first; for a coordinator that deals the rows out.

        If the tasks of the cluster are on several machines, each path is one on its worker's machine.

        Raises:
          OSError: a file cannot be made; see `dataset_file`.
        """
        return [rows.whole() for rows in self._rows_of_workers]


class StreamTrainConfig(StreamConfig, _Training):
    """Config of a training whose rows come during the run, and which exports models meanwhile."""

    def __init__(self, request, writer, metrics, connection, frames):
        super(StreamTrainConfig, self).__init__(request, writer, metrics, connection, frames)
        self._set_training(request, connection)
        # A worker's models are copies of the chief's: some strategies need each worker to save.
        # https://www.tensorflow.org/tutorials/distribute/multi_worker_with_keras#model_saving_and_loading
        self._is_chief = self.task_type == "chief"
        # Counts the models of earlier attempts at the same rows too, so that a model keeps its number.
        self._exports = request["exports"]
        self._directories = 1
        self._reports = []  # type: list
        self._begin = time.time()

    def report(self, **values):
        """Report the training's progress; the reports are in the row of each model that is exported later.

        Raises:
          TypeError: a value is not a number.
          ForkedError: the process is a child that the script forked.
        """
        self._connection.check_owner("config.report()")
        self._reports = (self._reports + [_numbers(values)])[-MAX_REPORTS:]

    def export(self):
        """Publish the complete SavedModel in `saved_model_dir` as the next version in `model_dir`.

        After the call, `saved_model_dir` is another directory. In a cluster only the chief's models are published. On
        other tasks the call removes the model, and sets the next directory.

        Raises:
          SavedModelError: the directory has no SavedModel, or not a usable one.
        """
        if self._is_chief:
            self._publish()
        else:
            shutil.rmtree(self.saved_model_dir, ignore_errors=True)
        self._directories += 1
        parent = os.path.dirname(self.saved_model_dir)
        self.saved_model_dir = os.path.join(parent, "model-{}".format(self._directories))

    def finish(self):
        """Publish a last model that `main` has saved without a call of `export()`.

        Raises:
          SavedModelError: the training has exported no model.
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
        self._connection.send_control(wire.EXPORT, exported)
