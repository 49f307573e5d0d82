"""The script's files: read while the pipeline is built, written on the worker, linked into each run."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator

import beam_tfscript
from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError
from beam_tfscript.script import uris
from beam_tfscript.script.uris import mask_uri

# A local file up to this size travels inside the job graph, so that every worker has it. Larger ones,
# and those that come when the graph has enough, are read by path on the worker: services refuse graphs
# of more than some 10 MB, and a file is a third larger in it.
EMBED_MAX_BYTES = 1 << 20
EMBED_TOTAL_BYTES = 4 << 20
_ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")


@dataclasses.dataclass(frozen=True)
class ScriptFile:
    """One file or directory of the script.

    Attributes:
      name: its name in the run's directory.
      uri: where it comes from; for messages, and to be read from where `content` is None.
      content: its bytes; a zip of them for a directory.
      is_directory: whether it is a directory.
    """

    name: str
    uri: str
    content: bytes | None = dataclasses.field(repr=False)
    is_directory: bool = False


def collect_file(argument: str, uri: str) -> ScriptFile:
    """Looks at a file while the pipeline is built.

    Raises:
      ArgumentError: it is local and not there, or no file system is known for it.
    """
    path = uris.local_path(uri)
    name = uris.base_name(uri)
    if path is None:
        uris.check_scheme(argument, uri)
        return ScriptFile(name, uri, None)
    path = os.path.abspath(path)
    if not os.path.exists(path):
        raise ArgumentError(f"{argument}: there is no file {uri!r} (looked for {path})")
    if os.path.isdir(path):
        size = sum(os.path.getsize(full) for full, _ in _walk(path))
        return ScriptFile(name, path, _zip(path) if size <= EMBED_MAX_BYTES else None, is_directory=True)
    if os.path.getsize(path) > EMBED_MAX_BYTES:
        return ScriptFile(name, path, None)
    with open(path, "rb") as file:
        return ScriptFile(name, path, file.read())


def limit_embedded(files: Iterable[ScriptFile]) -> tuple[ScriptFile, ...]:
    """The files, those that would make the job graph too large by path only."""
    limited, total = [], 0
    for file in files:
        size = len(file.content or b"")
        if total + size > EMBED_TOTAL_BYTES:
            file = dataclasses.replace(file, content=None)
        else:
            total += size
        limited.append(file)
    return tuple(limited)


def stage_files(files: Iterable[ScriptFile], directory: str) -> None:
    """Writes the script's files on the worker, once a harness, read-only, archives unpacked beside themselves.

    Raises:
      ScriptEnvironmentError: a file cannot be read here, or an archive is broken or unsafe.
    """
    os.makedirs(directory)
    for file in files:
        target = os.path.join(directory, file.name)
        try:
            _stage_file(file, target)
        except OSError as error:
            raise ScriptEnvironmentError(f"{mask_uri(file.uri)} cannot be staged on this worker: {error}") from error
    for file in files:
        if file.name.endswith(_ARCHIVES) and not file.is_directory:
            _unpack(os.path.join(directory, file.name), directory, mask_uri(file.uri))


def stage_runtime(directory: str) -> None:
    """Copies what the script process needs of this package: nothing else of the pipeline's goes on its path."""
    source = os.path.dirname(os.path.abspath(beam_tfscript.__file__))
    target = os.path.join(directory, "beam_tfscript")
    os.makedirs(target)
    shutil.copy(os.path.join(source, "__init__.py"), target)
    shutil.copytree(
        os.path.join(source, "runtime"),
        os.path.join(target, "runtime"),
        ignore=shutil.ignore_patterns("__pycache__"),
    )


def link_files(staged: str, work_dir: str) -> None:
    """Links what is staged into the directory of one run."""
    for entry in os.listdir(staged):
        os.symlink(os.path.join(staged, entry), os.path.join(work_dir, entry))


def _stage_file(file: ScriptFile, target: str) -> None:
    if file.is_directory:
        if file.content is not None:
            _unpack(io.BytesIO(file.content), target, file.uri)
        elif os.path.isdir(file.uri):
            os.symlink(file.uri, target)
        else:
            raise FileNotFoundError(_explain_unembedded(file))
        return
    if file.content is None and uris.local_path(file.uri) is not None and not os.path.exists(file.uri):
        raise FileNotFoundError(_explain_unembedded(file))
    content = file.content if file.content is not None else uris.read_bytes(file.uri)
    with open(target, "wb") as out:
        out.write(content)
    os.chmod(target, stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)


def _explain_unembedded(file: ScriptFile) -> str:
    return (
        f"only files up to {EMBED_MAX_BYTES >> 20} MiB, and {EMBED_TOTAL_BYTES >> 20} MiB together, travel with the "
        f"job, and the worker has no such path: put it where every worker can read it, such as gs://, s3:// or "
        f"hdfs://, and name that in place of {file.uri}"
    )


def _walk(directory: str) -> Iterator[tuple[str, str]]:
    for folder, _, names in os.walk(directory):
        for name in names:
            full = os.path.join(folder, name)
            yield full, os.path.relpath(full, directory)


def _zip(directory: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for full, relative in _walk(directory):
            archive.write(full, relative)
    return buffer.getvalue()


def _unpack(archive, directory: str, uri: str) -> None:
    """Unpacks a zip or tar file; an entry that would land outside `directory` is an error, and none is written."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as pack:
                _check_entries(pack.namelist(), directory, uri)
                pack.extractall(directory)
        else:
            with tarfile.open(archive) as pack:
                members = pack.getmembers()
                _check_entries([member.name for member in members], directory, uri)
                odd = [member.name for member in members if not (member.isfile() or member.isdir())]
                if odd:
                    raise ScriptEnvironmentError(
                        f"{uri} holds links or devices ({odd[0]!r}), which are not unpacked: pack plain files"
                    )
                for member in members:
                    pack.extract(member, directory, set_attrs=False)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ScriptEnvironmentError(f"{uri} is no archive that can be unpacked: {error}") from error


def _check_entries(names: Iterable[str], directory: str, uri: str) -> None:
    root = os.path.join(os.path.realpath(directory), "")
    for name in names:
        target = os.path.realpath(os.path.join(root, name))
        if os.path.isabs(name) or not (target + os.sep).startswith(root):
            raise ScriptEnvironmentError(f"{uri} holds the entry {name!r}, which would be written outside: refused")
        if os.path.lexists(target) and not os.path.isdir(target):
            raise ScriptEnvironmentError(f"{uri} holds {name!r}, which another of the script's files already is")
