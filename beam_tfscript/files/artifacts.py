"""Makes files that are too large for the job graph artifacts of the job, which its runner brings to the workers.

In come the script's files and the pipeline that they belong to, while it is built. Out go the same files, each with
its name among the artifacts, and the pipeline's option `files_to_stage` with those added: Beam reads it when the job is
submitted, sends the files to the job's artifact service or staging location, and the boot program of its containers
puts them on every worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator

from apache_beam.options.pipeline_options import PortableOptions, SetupOptions
from apache_beam.pipeline import Pipeline
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner, DirectRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.prism_runner import PrismRunner

from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError
from beam_tfscript.files.fetch import hash_file
from beam_tfscript.files.machine_cache import Built, build_once
from beam_tfscript.files.staging import ScriptFile
from beam_tfscript.files.trees import zip_tree

__all__ = ["attach_files", "runs_here"]

_HERE = (BundleBasedDirectRunner, DirectRunner, FnApiRunner)


def attach_files(files: Iterable[ScriptFile], pipeline: Pipeline) -> tuple[ScriptFile, ...]:
    """The files, those that travel neither in the graph nor by URI as artifacts of the pipeline's job.

    Where the workers are on this machine nothing is done: they read the files by path.

    Raises:
      ArgumentError: a directory cannot be packed.
    """
    files = tuple(files)
    if runs_here(pipeline):
        return files
    return tuple(_attach(file, pipeline) if file.content is None and file.path is not None else file for file in files)


def runs_here(pipeline: Pipeline) -> bool:
    """Whether the workers run on this machine for sure, as its own user."""
    environment = pipeline.options.view_as(PortableOptions).environment_type
    if environment:
        return environment.upper() == "LOOPBACK"
    return isinstance(pipeline.runner, (*_HERE, PrismRunner))


def _attach(file: ScriptFile, pipeline: Pipeline) -> ScriptFile:
    assert file.path is not None
    try:
        with _packed(file) as path:
            sha256 = hash_file(path) if file.is_directory else file.sha256
            # Beam calls an artifact by its file's name, and two files of one name would be one.
            artifact = f"beam_tfscript-{sha256}"
            place = _place(path, artifact, is_packed=file.is_directory, what=file.name)
    except (OSError, ScriptEnvironmentError) as error:
        raise ArgumentError(f"{file.name} cannot be made an artifact of the job: {error}") from error
    setup = pipeline.options.view_as(SetupOptions)
    setup.files_to_stage = list(dict.fromkeys([*(setup.files_to_stage or ()), place]))
    return dataclasses.replace(file, path=place, sha256=sha256, artifact=artifact)


@contextlib.contextmanager
def _packed(file: ScriptFile) -> Iterator[str]:
    """The file; of a directory a zip, not compressed, as what is large in a script's files seldom gives way."""
    assert file.path is not None
    if not file.is_directory:
        yield os.path.realpath(file.path)
        return
    with tempfile.TemporaryDirectory() as directory:
        zip_tree(file.path, path := os.path.join(directory, "zip"), zipfile.ZIP_STORED)
        yield path


def _place(path: str, artifact: str, *, is_packed: bool, what: str) -> str:
    """Where the file is to be found by its name among the artifacts, until the job is submitted."""

    def place(directory: str, lock: int) -> str:
        target = os.path.join(directory, artifact)
        shutil.move(path, target) if is_packed else os.symlink(path, target)
        return artifact

    def find_damage(built: Built) -> str | None:
        target = os.path.join(built.directory, built.note)
        if os.path.islink(target) and os.path.realpath(target) != path:
            return "it is a link to another file of that content by then"  # which may have changed since
        return None if os.path.exists(target) else "its content is gone"

    key = "artifact" + artifact[len("beam_tfscript") :]
    return os.path.join(build_once(key, place, what=what, find_damage=find_damage).directory, artifact)
