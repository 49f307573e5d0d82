"""The `uv` that is installed beside the interpreter of the tests: environments, and what is installed in them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

_UV = str(pathlib.Path(sys.executable).parent / "uv")


def run_uv(*arguments: str, environment: pathlib.Path | None = None) -> str:
    """Runs it, and returns what it printed.

    Args:
      arguments: what to do.
      environment: the directory of the environment to do it in.
    """
    # Compiling an environment with TensorFlow takes a minute of CPU time; imports compile what they need of it. Where
    # PYTHONDONTWRITEBYTECODE is set, they keep nothing, and each import of TensorFlow would take 10 s more.
    variables = {**os.environ, "UV_COMPILE_BYTECODE": "1" if sys.dont_write_bytecode else "0"}
    if environment is not None:
        variables["VIRTUAL_ENV"] = str(environment)
    return subprocess.run(
        [_UV, "--quiet", *arguments], check=True, env=variables, stdout=subprocess.PIPE, text=True
    ).stdout
