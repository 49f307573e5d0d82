"""Failures of a cluster's tasks on several machines: as JSON, as errors again, and the root cause among them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from typing import Any

from beam_tfscript.errors import (
    FeedError,
    ModelError,
    ScriptDied,
    ScriptEnvironmentError,
    ScriptError,
    ScriptLoadError,
    ScriptRaised,
    TFScriptError,
)

# Errors that keep their class on other machines; any other becomes a ScriptError.
_CLASSES = {
    error.__name__: error
    for error in (FeedError, ModelError, ScriptEnvironmentError, ScriptError, ScriptLoadError, ScriptRaised)
}


class PeerFailed(ScriptError):
    """A task on another machine has failed, and the tasks here are ended; never leaves `feeds/`."""


class TaskLost(ScriptDied):
    """A task whose machine, SDK worker or bundle is gone."""


def encode_failure(error: Exception) -> dict[str, Any]:
    """Return an error as a JSON object."""
    return {
        "class": type(error).__name__,
        "text": str(error),
        "returncode": getattr(error, "returncode", None),
        "at": time.time(),
    }


def decode_failure(failure: dict[str, Any]) -> TFScriptError:
    """Return the error of a JSON object."""
    if failure["class"] in (ScriptDied.__name__, TaskLost.__name__):
        kind = ScriptDied if failure["class"] == ScriptDied.__name__ else TaskLost
        return kind(failure["text"], returncode=failure["returncode"])
    return _CLASSES.get(failure["class"], ScriptError)(failure["text"])


def find_root(failures: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the failure that caused the others.

    A task that dies makes its peers raise or abort, at about the same time. So a death comes first, then a machine that
    is gone, and then the earliest of the errors that scripts raised. The clocks of machines differ a little.
    """
    return min(failures, key=lambda failure: (_rank(failure), failure["at"], failure["text"]))


def _rank(failure: dict[str, Any]) -> int:
    if failure["class"] == TaskLost.__name__:
        return 1
    if failure["class"] == ScriptRaised.__name__:
        return 2
    # TensorFlow aborts where it has lost a peer.
    return 3 if failure["returncode"] == -signal.SIGABRT else 0
