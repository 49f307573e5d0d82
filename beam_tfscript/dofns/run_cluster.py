"""Runs of a cluster, from the chunks of its shards: rows out, or a model; on one machine, or spread over several."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from beam_tfscript.cluster.tf_config import make_tasks
from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.script_dofns import RunsScript, bounds_of, in_window
from beam_tfscript.dofns.spool_chunks import while_read
from beam_tfscript.dofns.spool_removal import removable
from beam_tfscript.feeds.checkpoints import make_checkpoint_dir, remove_checkpoint_dir, training_token
from beam_tfscript.feeds.cluster_rows import ClusterRows
from beam_tfscript.feeds.dataset_cluster import ClusterRun, Outcome, describe_progress
from beam_tfscript.feeds.meeting import Meeting, notes_directory
from beam_tfscript.feeds.peers import Layout, OneHost
from beam_tfscript.models import model_store
from beam_tfscript.models.model_rows import ModelRow, model_to_rows
from beam_tfscript.models.trained_model import TrainedModel
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.options.train_options import TrainOptions

_Chunks = Iterable[tuple[int, int, bytes, str]]


class _RunsClusters(RunsScript):
    """Runs the tasks of a cluster that are on this machine.

    Args:
      options: the transform's arguments.
      bad: the dead letters for outputs that do not fit; None fails the bundle.
      train: the training's arguments; None of a run that trains nothing.
    """

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None, train: TrainOptions | None = None):
        super().__init__(options, bad)
        assert options.cluster is not None
        self._cluster = options.cluster
        self._train = train

    def _make_rows(self, directory: str) -> ClusterRows:
        return ClusterRows(directory, self._options.num_workers, is_summed=self._train is not None)

    def _run(self, layout: Layout, window: Any, directory: str, **arguments: Any) -> Iterator[Any]:
        """Run the tasks of a layout, and yield their outputs, or the model on the chief's machine."""
        bounds, train = bounds_of(window), self._train
        outcomes: list[Any] = []
        training: dict[str, Any] = {}
        if train is not None:
            training = {
                "checkpoint_dir": make_checkpoint_dir(self._staged, train, bounds),
                "publish": lambda outcome: outcomes.append(self._publish(outcome, bounds)),
            }
        run = ClusterRun(self._staged, layout, window=bounds, directory=directory, **training, **arguments)
        # Closed here: if a stage downstream fails, the tasks end before their directory is removed.
        with contextlib.closing(run.rows()) as rows:
            for records in rows:
                for row in self._decode(records):
                    yield in_window(row, window, window.max_timestamp())
        for outcome in outcomes:
            for row in self._give_out(outcome):
                yield in_window(row, window, window.max_timestamp())
        if train is not None and layout.has_chief:
            # By now the stages downstream in this bundle have taken the rows: a repeat of the bundle trains no more.
            remove_checkpoint_dir(self._staged, train, bounds)

    def _publish(self, outcome: Outcome, bounds: tuple[float, float] | None) -> Outcome | TrainedModel:
        """Publish a model; return its row, or the outcome itself if the model becomes rows."""
        assert self._train is not None
        if self._train.model_dir is None:
            return outcome
        # The same pipeline object may be run again, on other rows: that is another training.
        token = f"{training_token(self._staged, bounds)}-{outcome.checksum}"
        uri, version = model_store.publish(outcome.model_path, self._train.model_dir, token=token)
        last, course = describe_progress(outcome.progress)
        signatures, lengths = json.dumps(outcome.signatures), list(outcome.dataset_lengths)
        return TrainedModel(uri, version, signatures, lengths, outcome.seconds, last, course, outcome.attempt)

    def _give_out(self, outcome: Outcome | TrainedModel) -> Iterator[Any]:
        assert self._train is not None
        if isinstance(outcome, TrainedModel):
            yield outcome
            return
        for row in model_to_rows(outcome.model_path, self._train.model_name):
            yield ModelRow(*row)


class RunCluster(_RunsClusters):
    """(cluster, its chunks) -> the rows that all tasks of one run write, or the model of one training."""

    def process(
        self, element: tuple[int, _Chunks], window: Any = beam.DoFn.WindowParam, side_chunks: Any = None
    ) -> Iterator[Any]:
        """Run the cluster over the rows of one window."""
        with (
            tempfile.TemporaryDirectory(prefix="cluster-", dir=self._staged.pool.scratch()) as directory,
            self._side_inputs(window, side_chunks) as side_inputs,
        ):
            rows, counts = self._make_rows(directory), self._cluster.counts
            rows.fill("rows", make_tasks(counts), while_read(self._options, element[1]))
            files = [rows.requests[task] for task in make_tasks(counts) if task.shard is not None]
            layout = OneHost(
                counts, self._cluster.port_range, dataset_lengths=rows.lengths, checksum=rows.checksum, files=files
            )
            yield from self._run(layout, window, directory, side_inputs=side_inputs, rows=rows.requests)
            yield from removable(rows.spooled)


@dataclasses.dataclass
class _Share:
    """The tasks of one cluster in this bundle, until its end.

    Attributes:
      directory: of their files.
      side_inputs: the window's side inputs.
      rows: of the tasks.
    """

    directory: str
    side_inputs: Mapping[str, Any]
    rows: ClusterRows


class RunShares(_RunsClusters):
    """(task, its chunks) -> the rows that the task writes, or the model of a training from its chief.

    The tasks of a bundle are taken first, and driven together when the bundle is finished. So two tasks of a cluster
    that are in one bundle do not wait for each other.
    """

    def start_bundle(self) -> None:
        """Begin without tasks; drop those of a bundle that has failed."""
        self._drop_shares()

    def process(
        self,
        element: tuple[int, _Chunks],
        window: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
        side_chunks: Any = None,
    ) -> None:
        """Take the rows of one task in one window."""
        key, chunks = element
        number = self._options.task_keys.index(key)
        share = self._shares.get((window, pane.index))
        if share is None:
            directory = self._files_of_bundle.enter_context(
                tempfile.TemporaryDirectory(prefix="share-", dir=self._staged.pool.scratch())
            )
            side_inputs = self._files_of_bundle.enter_context(self._side_inputs(window, side_chunks))
            share = self._shares[(window, pane.index)] = _Share(directory, side_inputs, self._make_rows(directory))
        task = make_tasks(self._cluster.counts)[number]
        share.rows.fill(f"task-{number}", [task], while_read(self._options, chunks))

    def finish_bundle(self) -> Iterator[Any]:
        """Run the tasks, one window after the other: all machines begin with the same window."""
        try:
            for window, pane in sorted(self._shares, key=lambda key: (key[0].max_timestamp(), repr(key[0]), key[1])):
                yield from self._run_share(self._shares[(window, pane)], window, pane)
        finally:
            self._drop_shares()

    def teardown(self) -> None:
        """Drop the tasks of a bundle that has failed."""
        self._drop_shares()
        super().teardown()

    def _run_share(self, share: _Share, window: Any, pane: int) -> Iterator[Any]:
        directory = notes_directory(self._options, bounds_of(window), pane)
        every = make_tasks(self._cluster.counts)
        tasks = [task for task in every if task in share.rows.requests]
        files = {every.index(task): share.rows.requests[task] for task in tasks}
        lengths = {number: value["dataset_length"] for number, value in files.items()}
        rows = {"lengths": lengths, "checksum": share.rows.checksum, "files": files}
        with Meeting(self._cluster, self._options.max_attempts, tasks, directory, rows) as meeting:
            yield from self._run(
                meeting, window, share.directory, side_inputs=share.side_inputs, rows=share.rows.requests
            )
        for removed in removable(share.rows.spooled):
            yield in_window(removed, window, window.max_timestamp())

    def _drop_shares(self) -> None:
        files, self._files_of_bundle = getattr(self, "_files_of_bundle", None), contextlib.ExitStack()
        self._shares: dict[tuple[Any, int], _Share] = {}
        if files is not None:
            files.close()
