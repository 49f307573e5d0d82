"""Which Python interpreter runs the script."""

from __future__ import annotations

import os
import sys

from beam_tfscript.errors import ScriptEnvironmentError


def find_interpreter() -> str:
    """The path of the worker's own interpreter, which the script shares unless told otherwise.

    Raises:
      ScriptEnvironmentError: the worker is embedded in a program that is not a Python interpreter.
    """
    if not sys.executable or not os.access(sys.executable, os.X_OK):
        raise ScriptEnvironmentError(
            f"the worker does not know its Python interpreter (sys.executable is {sys.executable!r}), so the script "
            "cannot be given one: run the SDK worker by a Python interpreter."
        )
    return sys.executable
