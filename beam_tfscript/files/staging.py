"""The script's files: checked while the pipeline is built, written on the worker, linked into each run's directory.

Input: paths and URIs. Output: on each worker, a directory with the files and the content of the archives. The way of a
file to the workers is decided while the pipeline is built:

    small local file           its content is in the job graph
    larger local file          an artifact of the job (artifacts.py), or its path if the workers are on this machine
    package data               as a local file
    URI with secrets           fetched here, then as a local file: neither the workers nor the graph get the URI
    any other URI              fetched by the workers, once per machine
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable

import beam_tfscript
from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError
from beam_tfscript.files import archives, open_source, package_data, trees, uris
from beam_tfscript.files import machine_cache as env_cache
from beam_tfscript.files.fetch import check_exists, fetch, hash_file, version_of
from beam_tfscript.files.uris import mask_name
from beam_tfscript.runtime.docs import page

# Limits of one local file in the job graph, and of all of them. Services refuse graphs of more than about 10 MB, and a
# file is a third larger in the graph.
EMBED_MAX_BYTES = 1 << 20
EMBED_TOTAL_BYTES = 4 << 20
_ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")


@dataclasses.dataclass(frozen=True)
class ScriptFile:
    """A file or directory of the script; a plain value in the job graph.

    Attributes:
      name: name in the run's directory.
      uri: the argument, without secrets; for messages, and for workers to fetch if `path` is None.
      content: the file's bytes, or a zip of a directory; None if the content is not in the job graph.
      is_directory: True for a directory.
      path: path on the machine that built the pipeline; None for a file that only workers fetch.
      sha256: hash of the content, in hexadecimal, or None if it is unknown.
      artifact: name among the job's artifacts, or None.
      is_environment: True for the archive of `python_env`, of which a worker has one copy for all runs.
      nonce: random text of the pipeline, which stands for a version that the URI's server does not send.
      is_sibling: True for a module found beside the script; a file of an archive takes precedence over it.
    """

    name: str
    uri: str
    content: bytes | None = dataclasses.field(repr=False)
    is_directory: bool = False
    path: str | None = dataclasses.field(default=None, repr=False)
    sha256: str | None = None
    artifact: str | None = None
    is_environment: bool = False
    nonce: str | None = dataclasses.field(default=None, repr=False)
    is_sibling: bool = False


def collect_file(argument: str, uri: str) -> ScriptFile:
    """Check a file while the pipeline is built; fetch it if its URI holds secrets.

    Args:
      argument: the transform's argument, for errors.
      uri: the file's path or URI.

    Raises:
      ArgumentError: the file does not exist as far as can be checked here, has another hash, or has a scheme that
        nothing reads.
    """
    plain, expected = uris.split_sha256(argument, uri)
    path = uris.local_path(plain)
    if path is not None:
        path = os.path.abspath(path)
        if not os.path.exists(path):
            raise ArgumentError(f"{argument}: there is no file {uri!r} (looked for {path})")
        return _collect_local(argument, path, uris.file_name(argument, plain), path, expected)
    open_source.check_scheme(argument, plain)
    if uris.scheme_of(plain) == "res":
        path = package_data.find_resource(argument, plain)
        return _collect_local(argument, path, uris.file_name(argument, plain), plain, expected)
    name = uris.file_name(argument, plain)
    if uris.has_secrets(plain):
        path = _fetch_here(argument, uri, expected)
        return _collect_local(argument, path, name, mask_name(plain), expected)
    check_exists(argument, plain)
    return ScriptFile(name, plain, None, sha256=expected, nonce=uuid.uuid4().hex)


def limit_embedded(files: Iterable[ScriptFile]) -> tuple[ScriptFile, ...]:
    """Return the files, without the content of those that would make the job graph too large."""
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
    """Write the script's files on the worker, read-only, and unpack archives beside themselves.

    All runs of a harness share the files. The directory itself stays writable, so that it can be moved.

    Raises:
      ScriptEnvironmentError: a file cannot be read or fetched here, or an archive is broken or unsafe.
    """
    files = tuple(files)
    os.makedirs(directory)
    for file in files:
        if not file.is_sibling:
            _stage_file(file, os.path.join(directory, file.name))
    for file in files:
        if file.name.endswith(_ARCHIVES) and not file.is_directory:
            archives.unpack(os.path.join(directory, file.name), directory, name=mask_name(file.uri))
    for file in files:
        if file.is_sibling and not _has_module(directory, file.name):
            _stage_file(file, os.path.join(directory, file.name))
    trees.make_read_only(directory)


def stage_runtime(directory: str) -> None:
    """Copy the part of this package that the script process needs; no other package of the pipeline is on its path."""
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
    """Link the staged files into a run's directory."""
    for entry in os.listdir(staged):
        os.symlink(os.path.join(staged, entry), os.path.join(work_dir, entry))


def find_file(file: ScriptFile) -> str:
    """Return the path on this worker of a file whose content is not in the job graph, or of a zip of a directory.

    The file is fetched if no process of this machine has fetched it yet.

    Raises:
      ScriptEnvironmentError: the file does not exist here, has changed, or cannot be fetched.
    """
    path = _find_artifact(file) or file.path
    if path is None:
        return _fetch_once(file)
    if not os.path.exists(path):
        raise ScriptEnvironmentError(_explain_absent(file))
    if file.sha256 is not None and hash_file(path) != file.sha256:
        raise ScriptEnvironmentError(
            f"{mask_name(file.uri)} has changed since the pipeline was built: its content has another hash. "
            "Do not change the files of a job while it runs."
        )
    return path


def _collect_local(argument: str, path: str, name: str, uri: str, expected: str | None) -> ScriptFile:
    if os.path.isdir(path):
        if expected is not None:
            raise ArgumentError(f"{argument}: {uri!r} is a directory, which has no hash: leave out #sha256=.")
        return ScriptFile(name, uri, _pack_small(argument, path, uri), is_directory=True, path=path)
    try:
        sha256 = hash_file(path)
        content = None
        if os.path.getsize(path) <= EMBED_MAX_BYTES:
            with open(path, "rb") as file:
                content = file.read()
    except OSError as error:
        raise ArgumentError(f"{argument}: {mask_name(uri)!r} cannot be read: {error}") from error
    if expected not in (None, sha256):
        raise ArgumentError(f"{argument}: the SHA-256 hash of {mask_name(uri)!r} is {sha256}, and must be {expected}.")
    return ScriptFile(name, uri, content, path=path, sha256=sha256)


def _pack_small(argument: str, path: str, uri: str) -> bytes | None:
    """Return a zip of a directory; None if it is too large for the job graph."""
    try:
        if sum(entry.size for entry in trees.list_tree(path) if not entry.is_directory) > EMBED_MAX_BYTES:
            return None
        trees.zip_tree(path, buffer := io.BytesIO())
    except OSError as error:
        raise ArgumentError(f"{argument}: the directory {mask_name(uri)!r} cannot be packed: {error}") from error
    return buffer.getvalue() if buffer.tell() <= EMBED_MAX_BYTES else None


def _fetch_here(argument: str, uri: str, expected: str | None) -> str:
    """Return the local path of a URI's content, which is fetched again unless its hash is given."""
    key = expected or uuid.uuid4().hex
    try:
        return _fetch_into_cache(uri, f"file-{key}")
    except ScriptEnvironmentError as error:
        raise ArgumentError(
            f"{argument}: {error}. A URI with keys, a password or a signature is fetched while the pipeline is built, "
            "so that the job does not contain them. If only the workers can reach the server, leave the secrets out of "
            f"the URI and set them in the workers' environment: {page('uris')}."
        ) from None


def _find_artifact(file: ScriptFile) -> str | None:
    # The boot program of Beam's containers puts the artifacts into the directory `staged` there.
    boot_directory = os.environ.get("SEMI_PERSISTENT_DIRECTORY")
    if file.artifact is None or not boot_directory:
        return None
    path = os.path.join(boot_directory, "staged", file.artifact)
    return path if os.path.exists(path) else None


def _fetch_once(file: ScriptFile) -> str:
    key = file.sha256
    uri = f"{file.uri}#sha256={key}" if key else file.uri
    if key is None:
        version = version_of(file.uri) or file.nonce
        key = hashlib.sha256(f"{file.uri} {version}".encode()).hexdigest()
    return _fetch_into_cache(uri, f"file-{key}")


def _fetch_into_cache(uri: str, key: str) -> str:
    def build(directory: str, lock: int) -> str:
        path = os.path.join(directory, "content")
        digest = fetch(uri, path)
        os.chmod(path, stat.S_IRUSR)
        return f"{digest} {os.path.getsize(path)}"

    built = env_cache.build_once(key, build, label=mask_name(uri), find_damage=_find_damage)
    return os.path.join(built.directory, "content")


def _find_damage(built: env_cache.Built) -> str | None:
    """Return the damage of a fetched file, as a cleaner of temporary directories causes; None if there is none."""
    _, _, size = built.note.partition(" ")
    try:
        found = os.path.getsize(os.path.join(built.directory, "content"))
    except FileNotFoundError:
        return "its content is gone"
    return None if size in ("", str(found)) else f"its content has {found} bytes, and had {size}"


def _has_module(directory: str, name: str) -> bool:
    """Return True if an archive has brought the module of a sibling."""
    stem = os.path.join(directory, os.path.splitext(name)[0])
    return os.path.lexists(stem) or os.path.lexists(stem + ".py")


def _stage_file(file: ScriptFile, target: str) -> None:
    try:
        if file.is_directory:
            _stage_directory(file, target)
        elif file.content is None:
            # A copy: the cache may be cleaned while the script runs, and no script reaches the original.
            shutil.copyfile(find_file(file), target)
        else:
            with open(target, "wb") as out:
                out.write(file.content)
    except OSError as error:
        raise ScriptEnvironmentError(f"{mask_name(file.uri)} cannot be staged on this worker: {error}") from error


def _stage_directory(file: ScriptFile, target: str) -> None:
    if file.content is not None:
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(os.path.dirname(target))) as packed:
            packed.write(file.content)
            packed.flush()
            archives.unpack(packed.name, target, name=mask_name(file.uri))
        return
    path = find_file(file)
    if os.path.isdir(path):
        trees.copy_tree(path, target)
    else:
        archives.unpack(path, target, name=mask_name(file.uri))


def _explain_absent(file: ScriptFile) -> str:
    reason = (
        "an archive of an environment, which is never in the job graph"
        if file.is_environment
        else f"too large for the job graph ({EMBED_MAX_BYTES >> 20} MiB per file, {EMBED_TOTAL_BYTES >> 20} MiB in all)"
    )
    return (
        f"{file.name} is {reason}, and this worker has it neither among the job's artifacts nor at the path it had "
        "when the pipeline was built. Workers that Beam's container does not start get no artifacts: copy the file to "
        "a file system that every worker can read, such as gs://, s3:// or hdfs://, and give its URI instead of "
        f"{mask_name(file.uri)}."
    )
