"""The error that a run's FAILED frame speaks of, in words."""

from __future__ import annotations

from typing import Any

from beam_tfscript.errors import FeedError, ModelError, ScriptError, ScriptLoadError, ScriptRaised


def translate_failure(label: str, failure: dict[str, Any], printed: str = "") -> ScriptError:
    """The error that a FAILED frame speaks of.

    Where the script's own code failed, one line says it at both ends of the message: Beam's log begins with the first,
    and the text of a failed job, which is a traceback of hundreds of lines, ends with the last.

    Args:
      label: the run.
      failure: the frame.
      printed: the last lines that the run printed, if any.
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
            "Of the modules beside a local script, those are there that an import statement names.\n"
        )
    elif failure["type"] == "ImportError":
        hint = f"It runs in {failure['python']}.\n"
    if failure["phase"] == "load":
        return ScriptLoadError(f"{summary}\n{label}: the script cannot be loaded:\n{said}{text}\n{hint}{summary}")
    return ScriptRaised(f"{summary}\n{label}: the script raised {failure['type']}:\n{said}{text}\n{hint}{summary}")
