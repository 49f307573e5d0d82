"""Runs of a cluster, from the chunks of all its shards: rows out, or a model."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.script_dofns import RunsScript, bounds_of, in_window
from beam_tfscript.dofns.spool_chunks import while_read
from beam_tfscript.dofns.spool_removal import removable
from beam_tfscript.feeds.checkpoints import make_checkpoint_dir, remove_checkpoint_dir, training_token
from beam_tfscript.feeds.dataset_cluster import ClusterRun, describe_progress
from beam_tfscript.models import model_store
from beam_tfscript.models.model_rows import ModelRow, model_to_rows
from beam_tfscript.models.trained_model import TrainedModel
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.options.train_options import TrainOptions

_Chunks = Iterable[tuple[int, int, bytes, str]]


class RunCluster(RunsScript):
    """(cluster, its chunks) -> the rows that all tasks of one run write."""

    def process(
        self, element: tuple[int, _Chunks], window: Any = beam.DoFn.WindowParam, side_chunks: Any = None
    ) -> Iterator[Any]:
        """Run the cluster over the rows of one window."""
        with (
            tempfile.TemporaryDirectory(prefix="cluster-", dir=self._staged.pool.scratch()) as directory,
            self._side_inputs(window, side_chunks) as side_inputs,
        ):
            run = ClusterRun(self._staged, directory=directory, side_inputs=side_inputs)
            # Closed here: if a stage downstream fails, the tasks end before their directory is removed.
            chunks = while_read(self._options, element[1])
            with contextlib.closing(run.rows(bounds_of(window), chunks)) as rows:
                for records in rows:
                    for row in self._decode(records):
                        yield in_window(row, window, window.max_timestamp())
            yield from removable(run.spooled)


class TrainModel(RunsScript):
    """(cluster, its chunks) -> the model of one training.

    Args:
      options: the transform's arguments.
      bad: the dead letters for rows that do not fit; None fails the bundle.
      train: the training's arguments.
    """

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None, train: TrainOptions):
        super().__init__(options, bad)
        self._train = train

    def process(
        self, element: tuple[int, _Chunks], window: Any = beam.DoFn.WindowParam, side_chunks: Any = None
    ) -> Iterator[Any]:
        """Train on the rows of one window."""
        bounds = bounds_of(window)
        with (
            tempfile.TemporaryDirectory(prefix="training-", dir=self._staged.pool.scratch()) as directory,
            self._side_inputs(window, side_chunks) as side_inputs,
        ):
            run = ClusterRun(
                self._staged,
                directory=directory,
                side_inputs=side_inputs,
                checkpoint_dir=make_checkpoint_dir(self._staged, self._train, bounds),
            )
            for _ in run.rows(bounds, while_read(self._options, element[1])):
                pass  # a training has no schema for rows
            for row in self._give_out(run, training_token(self._staged, bounds)):
                yield in_window(row, window, window.max_timestamp())
            yield from removable(run.spooled)
        # By now the stages downstream in this bundle have taken the rows: a repeat of the bundle trains no more.
        remove_checkpoint_dir(self._staged, self._train, bounds)

    def _give_out(self, run: ClusterRun, token: str) -> Iterator[Any]:
        outcome = run.outcome
        assert outcome.model_path is not None
        if self._train.model_dir is None:
            for row in model_to_rows(outcome.model_path, self._train.model_name):
                yield ModelRow(*row)
            return
        # The same pipeline object may be run again, on other rows: that is another training.
        token = f"{token}-{outcome.checksum}"
        uri, version = model_store.publish(outcome.model_path, self._train.model_dir, token=token)
        last, course = describe_progress(outcome.progress)
        signatures, lengths = json.dumps(outcome.signatures), list(outcome.dataset_lengths)
        yield TrainedModel(uri, version, signatures, lengths, outcome.seconds, last, course, outcome.attempt)
