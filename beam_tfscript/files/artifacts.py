"""Files that are too large for the job graph, as artifacts of the job, which the runner brings to the workers.

Input: the script's files and their pipeline, while it is built. Output: the same files, each with its name among the
artifacts. The artifacts are added to the pipeline's option `files_to_stage`. Beam reads this option when the job is
submitted, and sends the files to the job's artifact service or staging location. The boot program of Beam's containers
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
from apache_beam.options.value_provider import ValueProvider
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


class _Staged(list, ValueProvider):
    """Paths that Beam's Python SDK stages as artifacts, and that it does not pass on to a runner in Java.

    Such a runner has an option of the same name: the jars that it sends to its cluster. With these paths in their
    place, Spark's executors miss the runner's classes: "cannot assign instance of java.lang.invoke.SerializedLambda"
    (seen with Beam 2.62 and Spark 3.5). Beam submits a value provider without a value as null.
    """

    def is_accessible(self) -> bool:
        return False

    def get(self) -> list[str]:
        return list(self)


def attach_files(files: Iterable[ScriptFile], pipeline: Pipeline) -> tuple[ScriptFile, ...]:
    """Return the files, and make artifacts of those that are sent neither in the job graph nor by URI.

    Where the workers run on this machine, all files stay as they are: the workers read them by path.

    Raises:
      ArgumentError: a file cannot be read, or a directory cannot be packed.
    """
    files = tuple(files)
    if runs_here(pipeline):
        return files
    return tuple(_attach(file, pipeline) if file.content is None and file.path is not None else file for file in files)


def runs_here(pipeline: Pipeline) -> bool:
    """Return True if the workers certainly run on this machine, as the same user."""
    environment = pipeline.options.view_as(PortableOptions).environment_type
    if environment:
        return environment.upper() == "LOOPBACK"
    return isinstance(pipeline.runner, (*_HERE, PrismRunner))


def _attach(file: ScriptFile, pipeline: Pipeline) -> ScriptFile:
    assert file.path is not None
    try:
        with _packed(file) as path:
            sha256 = hash_file(path) if file.is_directory else file.sha256
            # Beam names an artifact by its file's name, so two files of one name would be one artifact.
            artifact = f"beam_tfscript-{sha256}"
            path = _keep_in_cache(path, artifact, is_packed=file.is_directory, label=file.name)
    except (OSError, ScriptEnvironmentError) as error:
        raise ArgumentError(f"{file.name} cannot be made an artifact of the job: {error}") from error
    setup = pipeline.options.view_as(SetupOptions)
    setup.files_to_stage = _Staged(dict.fromkeys([*(setup.files_to_stage or ()), path]))
    return dataclasses.replace(file, path=path, sha256=sha256, artifact=artifact)


@contextlib.contextmanager
def _packed(file: ScriptFile) -> Iterator[str]:
    """Yield the path of a file, or of a zip of a directory; uncompressed, because large files hardly shrink."""
    assert file.path is not None
    if not file.is_directory:
        yield os.path.realpath(file.path)
        return
    with tempfile.TemporaryDirectory() as directory:
        zip_tree(file.path, path := os.path.join(directory, "zip"), zipfile.ZIP_STORED)
        yield path


def _keep_in_cache(path: str, artifact: str, *, is_packed: bool, label: str) -> str:
    """Return the path, in the machine's cache, of a file with the artifact's name, for when the job is submitted."""

    def place(directory: str, lock: int) -> str:
        target = os.path.join(directory, artifact)
        shutil.move(path, target) if is_packed else os.symlink(path, target)
        return artifact

    def find_damage(built: Built) -> str | None:
        target = os.path.join(built.directory, built.note)
        if os.path.islink(target) and os.path.realpath(target) != path:
            return "it links to another file"  # which had the same content then, and may have changed
        return None if os.path.exists(target) else "its content is gone"

    key = "artifact" + artifact[len("beam_tfscript") :]
    return os.path.join(build_once(key, place, label=label, find_damage=find_damage).directory, artifact)
