"""Trainings that go on while rows come: each model that the script exports is published, and is a row."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

from beam_tfscript import metrics, model_store
from beam_tfscript.bad_records import BadRecords
from beam_tfscript.dofn_setup import bounds_of, in_window
from beam_tfscript.model_rows import ModelRow, model_to_rows
from beam_tfscript.options import ScriptOptions
from beam_tfscript.runtime import wire
from beam_tfscript.stream_dofns import RunsStream, StreamGroups, StreamShards
from beam_tfscript.trained_model import TrainedModel, TrainOptions


class _Publishes(RunsStream):
    """Publishes the models that runs export."""

    _train: TrainOptions

    def _training(self) -> TrainOptions:
        return self._train

    def _give_out(self, frames: Iterable[wire.Frame], window: Any, timestamp: Any) -> Iterator[Any]:
        for frame in frames:
            if frame.kind == wire.METRICS:
                metrics.add_from_script(frame.json())
            elif frame.kind == wire.EXPORT:
                for row in self._publish(frame.json(), window):
                    yield in_window(row, window, timestamp)

    def _publish(self, exported: dict[str, Any], window: Any) -> Iterator[Any]:
        if self._train.model_dir is None:
            for row in model_to_rows(exported["path"], self._train.model_name):
                yield ModelRow(*row)
        else:
            # A run that starts anew exports other models under the same numbers.
            identity = (self._options.key, bounds_of(window), exported["run"], exported["number"])
            token = hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
            uri, version = model_store.publish(exported["path"], self._train.model_dir, token=token)
            last: dict[str, float] = {}
            for report in exported["reports"]:
                last.update(report)
            yield TrainedModel(
                uri, version, json.dumps(exported["signatures"]), [exported["rows"]], exported["seconds"],
                json.dumps(last), json.dumps(exported["reports"]), exported["attempt"],
            )  # fmt: skip
        shutil.rmtree(exported["path"], ignore_errors=True)


class StreamTraining(_Publishes, StreamShards):
    """(key, chunk) of unbounded input -> a row for each model that a training exports as it goes on."""

    def __init__(self, options: ScriptOptions, bad: BadRecords | None, train: TrainOptions):
        super().__init__(options, bad)
        self._train = train


class StreamGroupTraining(_Publishes, StreamGroups):
    """(key, its chunks) of bounded input -> a row for each model that a training exports while it is fed."""

    def __init__(self, options: ScriptOptions, bad: BadRecords | None, train: TrainOptions):
        super().__init__(options, bad)
        self._train = train
