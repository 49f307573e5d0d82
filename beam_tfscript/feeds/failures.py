"""Errors of runs that failed: the error for a FAILED frame, and the one for a process that died while it was idle."""

from __future__ import annotations

from typing import Any

from beam_tfscript.errors import FeedError, ModelError, ScriptDied, ScriptError, ScriptLoadError, ScriptRaised


class IdleProcessDied(ScriptDied):
    """A process that served earlier runs ended before it began this one: another process takes the run.

    Private to the feeds: `retries.py` handles it, and it costs no attempt. A new process that ends so raises
    `ScriptDied`, as the next one may end so again.
    """


def translate_failure(label: str, failure: dict[str, Any], printed: str = "") -> ScriptError:
    """Return the error for a FAILED frame.

    Where the script's own code failed, the message begins and ends with the same summary. Beam's log shows the first
    line. The text of a failed job is a traceback of hundreds of lines, and shows the last.

    Args:
      label: the run's name.
      failure: the JSON object of the frame.
      printed: the last lines that the run printed, or an empty string.
    """
    text, summary = failure["traceback"].rstrip(), failure["summary"]
    said = f"The last lines that it printed:\n{printed}" if printed else ""
    if failure["phase"] == "model":
        return ModelError(f"{label}: {failure['message']}")
    if failure["phase"] == "feed":
        return FeedError(f"{label}: {failure['message']} It is at\n{text}")
    if failure["type"] == "SystemExit":
        return ScriptRaised(
            f"{summary}\n{label}: the script called sys.exit({failure['message']}). A script that is done returns from "
            f"main; one that cannot go on raises an error that says why.\n{said}{text}\n{summary}"
        )
    hint = ""
    if failure["type"] == "ModuleNotFoundError":
        hint = (
            f"It runs in {failure['python']}: install the module there, or add its file to user_files. "
            "Of the modules beside a local script, only those that an import statement names travel with it.\n"
        )
    elif failure["type"] == "ImportError":
        hint = f"It runs in {failure['python']}.\n"
    if failure["phase"] == "load":
        return ScriptLoadError(f"{summary}\n{label}: the script cannot be loaded:\n{said}{text}\n{hint}{summary}")
    return ScriptRaised(f"{summary}\n{label}: the script raised {failure['type']}:\n{said}{text}\n{hint}{summary}")
