"""Side inputs of a script, on the worker: chunks to files, once a harness and window."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from typing import Any

from beam_tfscript.options import ScriptOptions
from beam_tfscript.worker.spool import write_dataset

_lock = threading.Lock()


def write_side_inputs(
    options: ScriptOptions, scratch: str, window: tuple[float, float] | None, sides: Iterable[Any] | None
) -> dict[str, Any]:
    """The side inputs of a window as files, written once a harness and window.

    Args:
      options: the transform's arguments.
      scratch: the harness' directory.
      window: whose side inputs they are.
      sides: (name, (count, TFRecord bytes)) each.

    Returns:
      name -> its `path`, its `count` and its `schema`, as the script's config needs them.

    Raises:
      ScriptEnvironmentError: the disk is full.
    """
    if not options.side_schemas:
        return {}
    identity = hashlib.sha256(f"{options.key} {window}".encode()).hexdigest()[:24]
    directory = os.path.join(scratch, f"sides-{identity}")
    with _lock:
        if not os.path.isdir(directory):
            part = directory + ".part"
            os.makedirs(part, exist_ok=True)
            _write(part, options.side_schemas, sides or ())
            os.rename(part, directory)
    return {
        name: {
            "path": os.path.join(directory, f"{name}.tfrecord"),
            "schema": None if schema is None else schema.to_wire(),
        }
        for name, schema in options.side_schemas.items()
    }


def _write(directory: str, names: Iterable[str], sides: Iterable[Any]) -> None:
    for name in names:
        write_dataset(os.path.join(directory, f"{name}.tfrecord"), ())
    for name, chunk in sides:
        write_dataset(os.path.join(directory, f"{name}.tfrecord"), [chunk])
