"""Trainings that go on while rows come: each model that the script exports is published, and becomes a row."""

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
from beam_tfscript.feeds.dataset_cluster import describe_progress
from beam_tfscript.feeds.demultiplexer import Model, Output
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.models import model_store
from beam_tfscript.models.model_rows import ModelRow, model_to_rows
from beam_tfscript.models.trained_model import TrainedModel
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.options.train_options import TrainOptions


class _Publishes(RunsStream):
    """Publishes the models that runs export."""

    _train: TrainOptions

    def _training(self) -> TrainOptions:
        return self._train

    def _convert(self, output: Output, window: Any, state: StreamState) -> Iterator[Any]:
        if isinstance(output, Model):
            exported = output.exported
            yield from self._publish(exported, (self._options.key, bounds_of(window), self._identity(state)))
            state.exports = max(state.exports, exported["number"])

    def _identity(self, state: StreamState) -> str:
        """Return the part of the training's identity beside its application and its window."""
        raise NotImplementedError

    def _publish(self, exported: dict[str, Any], training: Hashable) -> Iterator[Any]:
        """Publish a model and yield its row.

        Models are numbered in their training, whichever attempt exports them. So a bundle that is repeated, and a
        window that is replayed, find the versions that were published before.
        """
        if self._train.model_dir is None:
            for row in model_to_rows(exported["path"], self._train.model_name):
                yield ModelRow(*row)
        else:
            token = hashlib.sha256(repr((training, exported["number"])).encode()).hexdigest()[:32]
            uri, version = model_store.publish(exported["path"], self._train.model_dir, token=token)
            last, progress = describe_progress(exported["reports"])
            yield TrainedModel(
                uri, version, json.dumps(exported["signatures"]), exported["dataset_lengths"], exported["seconds"],
                last, progress, exported["attempt"],
            )  # fmt: skip
        shutil.rmtree(exported["path"], ignore_errors=True)


class StreamTraining(_Publishes, StreamShards):
    """(key, chunk) of unbounded input -> a row for each model that a training exports as it goes on."""

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None, train: TrainOptions):
        super().__init__(options, bad)
        self._train = train

    def _identity(self, state: StreamState) -> str:
        # A pipeline that runs again, on other rows, has other windows, except for the global one.
        return state.nonce

    def _end(self, stored: Any, state: StreamState) -> None:
        # Late rows train anew, and their models have the next numbers.
        stored.write(StreamState(nonce=state.nonce, exports=state.exports, first_export=state.exports).encode())


class StreamGroupTraining(_Publishes, StreamGroups):
    """(key, its chunks) of bounded input -> a row for each model that a training exports while it is fed."""

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None, train: TrainOptions):
        super().__init__(options, bad)
        self._train = train

    def _run(self, stream: GroupStream, chunks: Iterable[tuple[int, int, bytes]], window: Any) -> Iterator[Any]:
        # The rows are a part of the training's identity, so all of them are taken first.
        self._checksum = stream.gather(chunks)
        return self._elements_of(stream.outputs(), window, window.max_timestamp(), stream.state)

    def _identity(self, state: StreamState) -> str:
        return self._checksum
