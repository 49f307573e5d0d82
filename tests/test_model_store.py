"""Publishing a model: a version is complete or absent for readers, rivals, and after a publisher's death."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError
from beam_tfscript.models import model_store
from beam_tfscript.models.model_store import check_model_dir, publish
from tests import memory_file_system
from tests.engines.server import started
from tests.memory_file_system import MEMORY, Died
from tests.servers import object_store

ROOT = pathlib.Path(__file__).parent.parent
FILES = ["assets/vocab.gz", "saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]
TOKEN_FILE = "assets.extra/beam_tfscript_training"
REMOTE = ["memkeys://bucket/models/digits", "memdirs://host/models/digits"]


@pytest.fixture
def memory(monkeypatch):
    fresh = memory_file_system.Memory()
    vars(MEMORY).update(vars(fresh))
    return MEMORY


def make_model(directory: pathlib.Path, mark: str = "one", files: int = 0) -> str:
    """A directory that looks like a SavedModel; each file's content says which model it is of."""
    for name in [*FILES, *(f"assets/{number}" for number in range(files))]:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{mark} {name}")
    (directory / "empty").mkdir(exist_ok=True)
    return str(directory)


def versions_in(directory: pathlib.Path) -> dict[str, set[str]]:
    """Return version -> the marks of its files, for versions that a reader accepts as complete."""
    found = {}
    for path in directory.iterdir():
        if path.name.isdigit() and (path / "saved_model.pb").exists():
            found[path.name] = {(path / name).read_text().split()[0] for name in FILES}
            assert (path / TOKEN_FILE).exists()
    return found


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_versions_grow_and_a_repeated_training_keeps_its_own(tmp_path, prefix):
    store = tmp_path / "models" / "digits"
    first, second = make_model(tmp_path / "a", "one"), make_model(tmp_path / "b", "two")
    assert publish(first, f"{prefix}{store}", token="a") == (str(store / "1"), 1)
    assert publish(second, f"{prefix}{store}", token="b") == (str(store / "2"), 2)
    # A repeat trains anew, and its model is another; what was published stays.
    assert publish(second, f"{prefix}{store}", token="a") == (str(store / "1"), 1)
    assert versions_in(store) == {"1": {"one"}, "2": {"two"}}
    assert sorted(path.name for path in store.iterdir()) == [".publishing", "1", "2"]


def test_a_version_has_the_models_files_and_can_be_read_by_others(tmp_path):
    source = tmp_path / "private"
    source.mkdir(mode=0o700)
    uri, _ = publish(make_model(source), str(tmp_path / "store"), token="a")
    found = {str(path.relative_to(uri)) for path in pathlib.Path(uri).rglob("*") if path.is_file()}
    assert found == {*FILES, TOKEN_FILE}
    umask = os.umask(0)
    os.umask(umask)
    assert os.stat(uri).st_mode & 0o777 == 0o777 & ~umask


@pytest.fixture
def disk(monkeypatch):
    """List of the syncs and renames, in order: ("sync", path) and ("rename", from, to)."""
    steps: list[tuple[str, ...]] = []
    fsync, rename = os.fsync, os.rename

    def record_fsync(descriptor):
        steps.append(("sync", _path(descriptor)))
        fsync(descriptor)

    def record_rename(source, target):
        steps.append(("rename", str(source), str(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    return steps


def test_a_version_is_on_the_disk_before_it_is_a_version(tmp_path, disk):
    store, model = tmp_path / "models" / "digits", make_model(tmp_path / "a")
    uri, _ = publish(model, str(store), token="a")
    ((_, staged, target),) = (step for step in disk if step[0] == "rename")
    assert target == uri
    before = {path for _, path in disk[: disk.index(("rename", staged, target))]}
    (promised,) = (path for path in (store / ".publishing").iterdir() if path.name not in ("lock",))
    parts = {"", "assets", "variables", "assets.extra", *FILES, TOKEN_FILE}
    assert before >= {os.path.join(staged, part).rstrip("/") for part in parts}
    assert before >= {str(path) for path in (promised, promised.parent, store, store.parent, tmp_path)}
    # The list of names that holds the version, when it has it.
    assert disk[-1] == ("sync", str(store))
    # A directory's list is complete when what it lists is on the disk.
    order = [path for _, path in disk[: disk.index(("rename", staged, target))]]
    for name in FILES:
        path = os.path.join(staged, name)
        assert order.index(path) < order.index(os.path.dirname(path)) <= order.index(staged)


def test_a_version_whose_publisher_died_is_on_the_disk_before_it_is_given_out(tmp_path, disk):
    store, model = tmp_path / "store", make_model(tmp_path / "a")
    publish(model, str(store), token="a")
    disk.clear()
    publish(model, str(store), token="a")
    assert disk == [("sync", str(store))]


def test_a_disk_that_cannot_be_written_to_its_end_fails_the_publishing(tmp_path, monkeypatch):
    def fail(descriptor):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        raise OSError(errno.EINVAL, "as some file systems say of a directory")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ScriptEnvironmentError, match="cannot be published to .*store: OSError: .*Input/output error"):
        publish(make_model(tmp_path / "a"), str(tmp_path / "store"), token="a")
    assert versions_in(tmp_path / "store") == {}
    monkeypatch.setattr(os, "fsync", lambda descriptor: fail(descriptor) if os.path.isdir(_path(descriptor)) else None)
    assert publish(str(tmp_path / "a"), str(tmp_path / "store"), token="a")[1] == 1


def _path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def test_versions_of_others_are_counted_on(tmp_path):
    make_model(tmp_path / "store" / "1579000000")
    (tmp_path / "store" / "00001579000001").mkdir()
    assert publish(make_model(tmp_path / "a"), str(tmp_path / "store"), token="a")[1] == 1579000002


def test_a_version_that_was_removed_is_not_taken_for_published(tmp_path):
    import shutil

    store = tmp_path / "store"
    for token in ("a", "b"):
        publish(make_model(tmp_path / token, token), str(store), token=token)
    shutil.rmtree(store / "1")
    assert publish(str(tmp_path / "a"), str(store), token="a")[1] == 3
    shutil.rmtree(store / "2")
    shutil.rmtree(store / "3")
    assert publish(make_model(tmp_path / "c", "c"), str(store), token="c")[1] == 1
    assert publish(str(tmp_path / "a"), str(store), token="a")[1] == 2
    assert versions_in(store) == {"1": {"c"}, "2": {"a"}}


@pytest.mark.parametrize("same", [True, False], ids=["one training", "many trainings"])
def test_concurrent_publishers_dont_share_a_version(tmp_path, same):
    store = tmp_path / "store"
    models = [make_model(tmp_path / f"m{number}", f"m{number}") for number in range(8)]

    def one(number):
        return publish(models[number], str(store), token="same" if same else str(number))[1]

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(one, range(8)))
    assert sorted(versions) == ([1] * 8 if same else list(range(1, 9)))
    for version, marks in versions_in(store).items():
        assert len(marks) == 1 and int(version) in versions


def test_without_a_model_nothing_is_published(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScriptEnvironmentError, match="is not a SavedModel: it has no saved_model.pb"):
        publish(str(tmp_path / "empty"), str(tmp_path / "store"), token="a")
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScriptEnvironmentError, match="cannot be published to .*file/store: NotADirectory"):
        publish(make_model(tmp_path / "a"), str(tmp_path / "file" / "store"), token="a")


def test_rejects_a_model_dir_that_is_a_pattern_or_unknown():
    assert check_model_dir("/models/[1]") == "/models/[1]"
    with pytest.raises(ArgumentError, match="not a pattern"):
        check_model_dir("memkeys://bucket/*")
    with pytest.raises(ArgumentError, match="no file system is known for 'nonesuch://a/b'"):
        check_model_dir("nonesuch://a/b")


_PUBLISHER = """
import sys
from beam_tfscript.models.model_store import publish
for number in range(int(sys.argv[3]), 10 ** 6):
    publish(sys.argv[1], sys.argv[2], token=str(number))
    if number == int(sys.argv[3]):
        print("begun", flush=True)
"""


@pytest.mark.kills
def test_a_killed_publisher_leaves_no_partial_version_and_its_traces_go(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    model = make_model(tmp_path / "a", files=60)
    wanted, seen, stop = 65, set(), threading.Event()

    def read():
        while not stop.is_set():
            for path in store.iterdir():
                if path.name.isdigit():
                    files = sum(len(files) for _, _, files in os.walk(path))
                    seen.add((path.name, files))

    reader = threading.Thread(target=read)
    reader.start()
    first = 0
    try:
        for round_s in (0.05, 0.13, 0.21):
            command = [sys.executable, "-c", _PUBLISHER, model, str(store), str(first)]
            publisher = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
            try:
                assert publisher.stdout.readline() == b"begun\n"
                time.sleep(round_s)  # to be killed at no particular point
            finally:
                publisher.send_signal(signal.SIGKILL)
                publisher.communicate()
            # Version n is of training n - 1: this is the one that was cut short.
            first = max(int(path.name) for path in store.iterdir() if path.name.isdigit())
    finally:
        stop.set()
        reader.join()
    assert {files for _, files in seen} == {wanted}
    assert len({name for name, _ in seen}) >= 3
    # What was published is known again, and the next publisher clears up.
    assert publish(model, str(store), token="0")[1] == 1
    newest = max(int(path.name) for path in store.iterdir() if path.name.isdigit())
    assert publish(model, str(store), token="another")[1] == newest + 1
    left = [path.name for path in (store / ".publishing").iterdir() if path.is_dir()]
    assert left == []


def numbered(files: dict[str, bytes], directory: str) -> dict[int, dict[str, bytes]]:
    """Version -> relative path -> content."""
    found: dict[int, dict[str, bytes]] = {}
    for path, content in files.items():
        version, _, name = path[len(directory) + 1 :].partition("/")
        if version.isdigit():
            found.setdefault(int(version), {})[name] = content
    return found


def assert_whole(files: dict[str, bytes], directory: str) -> set[int]:
    """Check that each version that a reader accepts is complete, of one publisher; return those versions."""
    complete = set()
    for version, content in numbered(files, directory).items():
        if "saved_model.pb" in content:
            assert set(content) == {*FILES, TOKEN_FILE}, version
            assert len({content[name].split()[0] for name in FILES}) == 1, version
            complete.add(version)
        else:
            assert directory.startswith("memkeys://"), "a directory is there in one step"
    return complete


@pytest.mark.parametrize("directory", REMOTE)
def test_wherever_a_publisher_dies_no_version_is_partial(tmp_path, memory, directory):
    first, second = make_model(tmp_path / "a", "one"), make_model(tmp_path / "b", "two")
    memory.observe = lambda files: assert_whole(files, directory)
    publish(first, directory, token="before")
    for changes in range(100):
        memory.changes_left = changes
        token = f"training {changes}"
        try:
            publish(first, directory, token=token)
            break
        except Died:
            pass
        memory.changes_left = None
        published = assert_whole(memory.files, directory)
        uri, version = publish(second, directory, token=token)
        assert uri == f"{directory}/{version}" and version == max(published | {version})
        assert publish(first, directory, token=token) == (uri, version)
        tokens = [
            content[TOKEN_FILE] for content in numbered(memory.files, directory).values() if TOKEN_FILE in content
        ]
        complete = assert_whole(memory.files, directory)
        assert len(complete - published) <= 1
        assert publish(second, directory, token=f"other {changes}")[1] > version
        assert tokens
    # As many as a publisher makes: its files, what is promised, claimed and removed.
    assert changes > 8


@pytest.mark.parametrize("directory", REMOTE)
def test_remote_publishers_dont_share_a_version(tmp_path, memory, directory):
    models = [make_model(tmp_path / f"m{number}", f"m{number}") for number in range(8)]
    memory.observe = lambda files: assert_whole(files, directory)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: publish(models[number], directory, token=str(number))[1], range(8)))
    assert len(set(found)) == 8 and assert_whole(memory.files, directory) == set(found)
    for number, version in enumerate(found):
        assert numbered(memory.files, directory)[version]["saved_model.pb"] == f"m{number} saved_model.pb".encode()
    left = [path for path in memory.files if "/.publishing/" in path]
    assert len(left) == 8, "what each training was promised, and nothing else"


@pytest.mark.parametrize("directory", REMOTE)
def test_what_was_left_long_ago_is_removed(tmp_path, memory, directory):
    old, new = f"{directory}/.publishing/1000-aa/saved_model.pb", f"{directory}/.publishing/{time.time():.0f}-bb/x"
    memory.files.update({old: b"", new: b""})
    publish(make_model(tmp_path / "a"), directory, token="a")
    assert old not in memory.files and new in memory.files


def test_a_copy_that_got_lost_is_no_version(tmp_path, memory, monkeypatch):
    monkeypatch.setattr(memory_file_system.KeysFileSystem, "copy", lambda self, sources, targets: ["an error"])
    with pytest.raises(ScriptEnvironmentError, match="were not copied within the store"):
        publish(make_model(tmp_path / "a"), REMOTE[0], token="a")
    assert assert_whole(memory.files, REMOTE[0]) == set()


def test_publishes_to_a_real_object_store(tmp_path, monkeypatch):
    import boto3

    keys = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
    with started(object_store, tmp_path) as address:
        client = boto3.client("s3", endpoint_url=f"http://{address}", **keys)
        client.create_bucket(Bucket="models")
        options = [
            f"--s3_endpoint_url=http://{address}", "--s3_access_key_id=k", "--s3_secret_access_key=s",
            "--s3_region_name=us-east-1",
        ]  # fmt: skip
        monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions(options))
        uri, version = publish(make_model(tmp_path / "a"), "s3://models/digits", token="a")
        assert (uri, version) == ("s3://models/digits/1", 1)
        assert publish(make_model(tmp_path / "b", "two"), "s3://models/digits", token="b")[1] == 2
        assert publish(str(tmp_path / "b"), "s3://models/digits", token="a") == (uri, 1)
        names = {found["Key"] for found in client.list_objects_v2(Bucket="models")["Contents"]}
        assert {name for name in names if not name.startswith("digits/.publishing/")} == {
            f"digits/{version}/{name}" for version in (1, 2) for name in [*FILES, TOKEN_FILE]
        }
        assert (
            client.get_object(Bucket="models", Key="digits/1/assets/vocab.gz")["Body"].read() == b"one assets/vocab.gz"
        )
        client.close()


def test_the_store_says_where_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(model_store, "_LOCK_TIMEOUT_S", 0.1)
    import fcntl

    store = tmp_path / "store"
    publish(make_model(tmp_path / "a"), str(store), token="a")
    with open(store / ".publishing" / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ScriptEnvironmentError, match="cannot be published to .*store: BlockingIOError"):
            publish(str(tmp_path / "a"), str(store), token="b")
    assert publish(str(tmp_path / "a"), str(store), token="b")[1] == 2
