"""Trainings that go on while rows come: each model that the script exports is published, and is a row."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import hashlib
import json
import shutil
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.run_stream import RunsStream, StreamGroups, StreamShards
from beam_tfscript.dofns.script_dofns import bounds_of
from beam_tfscript.feeds.bounded_stream import GroupStream
from beam_tfscript.feeds.dataset_cluster import describe_reports
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.models import model_store
from beam_tfscript.models.model_rows import ModelRow, model_to_rows
from beam_tfscript.models.trained_model import TrainedModel
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.options.train_options import TrainOptions
from beam_tfscript.runtime.transport import wire


class _Publishes(RunsStream):
    """Publishes the models that runs export."""

    _train: TrainOptions

    def _training(self) -> TrainOptions:
        return self._train

    def _elements_of(self, frame: wire.Frame, window: Any, state: StreamState) -> Iterator[Any]:
        if frame.kind == wire.EXPORT:
            exported = frame.json()
            yield from self._publish(exported, (self._options.key, bounds_of(window), self._identity(state)))
            state.exports = max(state.exports, exported["number"])

    def _identity(self, state: StreamState) -> str:
        """What tells this training of the window from others."""
        raise NotImplementedError

    def _publish(self, exported: dict[str, Any], training: Hashable) -> Iterator[Any]:
        """Publish a model and yield its row.

        The number of a model is its place among those of its training, whichever attempt exports it. So a bundle that
        is repeated, and a window that is replayed, find the versions that were published before.
        """
        if self._train.model_dir is None:
            for row in model_to_rows(exported["path"], self._train.model_name):
                yield ModelRow(*row)
        else:
            token = hashlib.sha256(repr((training, exported["number"])).encode()).hexdigest()[:32]
            uri, version = model_store.publish(exported["path"], self._train.model_dir, token=token)
            last, reports = describe_reports(exported["reports"])
            yield TrainedModel(
                uri, version, json.dumps(exported["signatures"]), exported["dataset_lengths"], exported["seconds"],
                last, reports, exported["attempt"],
            )  # fmt: skip
        shutil.rmtree(exported["path"], ignore_errors=True)


class StreamTraining(_Publishes, StreamShards):
    """(key, chunk) of unbounded input -> a row for each model that a training exports as it goes on."""

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None, train: TrainOptions):
        super().__init__(options, bad)
        self._train = train

    def _identity(self, state: StreamState) -> str:
        # The windows of a pipeline that is run once more, on other rows, are others; but for the global one.
        return state.nonce

    def _end(self, stored: Any, state: StreamState) -> None:
        # Rows that come late train anew, and their models are the next ones.
        stored.write(StreamState(nonce=state.nonce, exports=state.exports, first_export=state.exports).encode())


class StreamGroupTraining(_Publishes, StreamGroups):
    """(key, its chunks) of bounded input -> a row for each model that a training exports while it is fed."""

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None, train: TrainOptions):
        super().__init__(options, bad)
        self._train = train

    def _run(self, stream: GroupStream, chunks: Iterable[tuple[int, int, bytes]], window: Any) -> Iterator[Any]:
        # Its rows are what tells a training from another; so they are all taken first.
        self._checksum = stream.gather(chunks)
        return self._outputs_of(stream.frames(), window, window.max_timestamp(), stream.state)

    def _identity(self, state: StreamState) -> str:
        return self._checksum
