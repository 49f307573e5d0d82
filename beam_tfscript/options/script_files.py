"""The main script, the user files, and the modules beside the script, while the pipeline is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from beam_tfscript.errors import ArgumentError
from beam_tfscript.files import uris
from beam_tfscript.files.siblings import find_siblings
from beam_tfscript.files.source_check import check_source
from beam_tfscript.files.staging import ScriptFile, collect_file, limit_embedded
from beam_tfscript.files.uris import mask_name


def collect_script(
    main_script_file: str, user_files: Sequence[str], entry: str
) -> tuple[ScriptFile, tuple[ScriptFile, ...]]:
    """Return (the main script, all files that its runs need, the main script included).

    Args:
      main_script_file, user_files, entry: the checked arguments of the transform.

    Raises:
      ArgumentError: a file does not exist, or two files have the same name.
      ScriptLoadError: the main script has a syntax error, or does not define the entry function.
    """
    script = _collect_main(main_script_file)
    files = {script.name: script}
    for uri in user_files:
        file = collect_file("user_files", uri)
        known = files.setdefault(file.name, file)
        if (known.uri, known.sha256) != (file.uri, file.sha256):
            raise ArgumentError(
                f"user_files: {known.uri} and {file.uri} have the same name, and both would be {file.name} beside the "
                "script: rename one."
            )
    local = uris.local_path(uris.split_sha256("main_script_file", main_script_file)[0])
    for path in () if local is None else find_siblings(local, files):
        file = collect_file("a module beside main_script_file", path)
        files[file.name] = dataclasses.replace(file, is_sibling=True)
    collected = limit_embedded(files.values())
    check_source(script, entry)
    return script, collected


def _collect_main(uri: str) -> ScriptFile:
    script = collect_file("main_script_file", uri)
    if script.is_directory or not script.name.endswith(".py") or script.name == ".py":
        reason = "it is a directory" if script.is_directory else "its name does not end with .py"
        raise ArgumentError(
            f"main_script_file must be a Python file, such as score.py, got {mask_name(uri)!r}: {reason}. If the "
            "script has several files, give the one that defines main(config) here, and the rest as user_files."
        )
    return script
