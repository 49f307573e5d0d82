"""Environments: each kind has an interpreter that runs, and is built once; a half-built one is never used."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import http.server
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import sysconfig
import tarfile
import threading
import time

import pytest

from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError
from beam_tfscript.files import machine_cache as env_cache
from beam_tfscript.python_env import environment
from beam_tfscript.python_env.building import pip_settings, uv_variables
from beam_tfscript.python_env.environment import find_interpreter
from beam_tfscript.python_env.python_env import check_python_env
from beam_tfscript.worker.guardian import Guardian
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_spec import ProcessSpec
from tests.environments import pack_python, pack_wrapper, write_wheel
from tests.interpreters import find_python
from tests.unprivileged import run_unprivileged

# Starting interpreters on a busy machine.
_PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Cache of one test, of which this process has remembered nothing."""
    monkeypatch.setenv("BEAM_TFSCRIPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environment, "_found", {})
    return tmp_path / "cache"


def ask(python: str, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def entries(cache: pathlib.Path) -> list[str]:
    """Return the names in the cache, without lock files."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") if cache.exists() else []


def messages(caplog, start: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(start)]


def test_without_arguments_it_is_the_workers_own():
    assert find_interpreter(check_python_env(None)) == find_interpreter() == sys.executable


def test_a_directory_is_used_in_place(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    env = check_python_env(f"file://{tmp_path}/env")
    python = find_interpreter(env)
    assert python == str(tmp_path / "env/bin/python")
    assert ask(python, "import sys; print(sys.prefix)") == str(tmp_path / "env")


def test_a_directory_of_the_workers_is_looked_for_only_there(tmp_path):
    env = check_python_env(f"worker://{tmp_path}/env/")
    with pytest.raises(ScriptEnvironmentError, match=f"{tmp_path}/env/bin/python"):
        find_interpreter(env)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    assert find_interpreter(env) == str(tmp_path / "env/bin/python")


@pytest.mark.parametrize("uri", ["worker://", "worker:///", "worker://opt/script"])
def test_a_directory_of_the_workers_needs_its_whole_path(uri):
    with pytest.raises(ArgumentError, match="python_env: after 'worker://' must come the path of a directory"):
        check_python_env(uri)


@pytest.mark.parametrize("folder", ["", "my-env"])
def test_an_archive_is_unpacked_once_and_its_interpreter_runs(tmp_path, cache, caplog, folder):
    env = check_python_env(pack_python(tmp_path / "my-env.tar.gz", folder=folder))
    python = find_interpreter(env)
    prefix, json_file = ask(python, "import sys, json; print(sys.prefix, json.__file__)").split()
    assert prefix.startswith(str(cache)) and json_file.startswith(prefix)
    environment._found.clear()
    assert find_interpreter(pickle.loads(pickle.dumps(env))) == python
    assert len(messages(caplog, "building")) == len(messages(caplog, "built")) == 1
    assert cache.stat().st_mode & 0o777 == 0o700


def test_conda_unpack_is_run_where_it_is(tmp_path):
    relocate = "import sys\nopen(sys.prefix + '/moved', 'w').write(sys.executable)\n"
    python = find_interpreter(check_python_env(pack_python(tmp_path / "env.tar.gz", relocate=relocate)))
    assert (pathlib.Path(python).parent.parent / "moved").read_text() == python


@contextlib.contextmanager
def web_server(directory, requests):
    """Serve a directory; `requests` gets the method of each request."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-"):
            requests.append(self.command)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_remote_archive_is_fetched_once_and_unpacked_once_a_content(tmp_path, cache, caplog):
    (tmp_path / "web").mkdir()
    sha256 = hashlib.sha256(pathlib.Path(pack_wrapper(tmp_path / "web/env.tar.gz")).read_bytes()).hexdigest()
    requests: list[str] = []
    with web_server(tmp_path / "web", requests) as address:
        unknown = check_python_env(f"{address}/env.tar.gz")
        known = check_python_env(f"{address}/env.tar.gz#sha256={sha256}")
        python = find_interpreter(unknown)
        environment._found.clear()
        assert find_interpreter(unknown) == find_interpreter(known) == python
        assert requests.count("GET") == 1
    local = check_python_env(str(tmp_path / "web/env.tar.gz"))
    assert find_interpreter(local) == python
    assert [name for name in entries(cache) if name.startswith("archive-")] == [f"archive-{sha256}"]
    environment._found.clear()
    assert find_interpreter(known) == python, "its server is not needed any more"


def test_a_hash_that_is_not_the_archives_is_refused(tmp_path, cache):
    (tmp_path / "web").mkdir()
    pack_wrapper(tmp_path / "web/env.tar.gz")
    with web_server(tmp_path / "web", []) as address:
        env = check_python_env(f"{address}/env.tar.gz#sha256={'0' * 64}")
        with pytest.raises(ScriptEnvironmentError, match="which is not the one in the URI"):
            find_interpreter(env)
    assert all(name.endswith(".failed") for name in entries(cache))


def test_an_archive_that_changed_is_refused(tmp_path, cache):
    env = check_python_env(pack_wrapper(tmp_path / "env.tar.gz"))
    pack_wrapper(tmp_path / "env.tar.gz", {"more": "x"})
    with pytest.raises(ScriptEnvironmentError, match=r"env\.tar\.gz has changed since the pipeline was built"):
        find_interpreter(env)
    assert all(name.endswith(".failed") for name in entries(cache))


def test_a_corrupt_archive_leaves_nothing_and_can_be_put_right(tmp_path, cache):
    whole = pathlib.Path(pack_wrapper(tmp_path / "env.tar.gz", {"noise": os.urandom(99_999).hex()})).read_bytes()
    (tmp_path / "env.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ScriptEnvironmentError, match=r"env\.tar\.gz is not an archive that can be unpacked"):
        find_interpreter(check_python_env(str(tmp_path / "env.tar.gz")))
    assert all(name.endswith(".failed") for name in entries(cache))
    (tmp_path / "env.tar.gz").write_bytes(whole)
    assert find_interpreter(check_python_env(str(tmp_path / "env.tar.gz")))


def test_an_archive_without_an_interpreter_says_what_it_holds(tmp_path):
    with tarfile.open(tmp_path / "env.tar.gz", "w:gz") as pack:
        pack.add(__file__, "src/test.py")
        pack.add(__file__, "notes")
    with pytest.raises(
        ScriptEnvironmentError, match="no interpreter bin/python.+ 'env'; at its top are 'notes', 'src'"
    ):
        find_interpreter(check_python_env(str(tmp_path / "env.tar.gz")))


def test_a_packed_venv_is_refused_with_the_way_out(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    with tarfile.open(tmp_path / "env.tar.gz", "w:gz") as pack:
        pack.add(tmp_path / "env", "env")
    with pytest.raises(ScriptEnvironmentError, match="refused: it holds 'env/bin/python.+conda-pack"):
        find_interpreter(check_python_env(str(tmp_path / "env.tar.gz")))


def test_a_venv_whose_interpreter_is_gone_says_so(tmp_path):
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/pyvenv.cfg").write_text("home = /gone/bin\nversion = 3.8.1\n")
    (tmp_path / "env/bin/python").write_text("#!/gone/bin/python3.8\n")
    (tmp_path / "env/bin/python").chmod(0o755)
    with pytest.raises(ScriptEnvironmentError, match="cannot be started.+ interpreter in /gone/bin, which is not on"):
        find_interpreter(check_python_env(str(tmp_path / "env")))


def test_an_interpreter_that_is_too_old_names_both_sides(tmp_path):
    old = find_python("2.7")
    if old is None:
        pytest.skip("no Python 2.7 on this machine")
    own = sysconfig.get_python_version()
    with pytest.raises(ScriptEnvironmentError, match=rf"is Python 2\.7\.\d+, .+ 3\.6 or newer .+ is Python {own}"):
        find_interpreter(check_python_env(str(pathlib.Path(old).parent.parent)))


@pytest.mark.builds
def test_requirements_are_installed_once(tmp_path, cache, caplog):
    lines = ["--no-index", write_wheel(tmp_path / "wheels", "tiny"), "tiny==1.0"]
    env = check_python_env(None, requirements=lines)
    python = find_interpreter(env)
    assert ask(python, "import tiny; print(tiny.VERSION)") == "1.0"
    environment._found.clear()
    assert find_interpreter(env) == python
    assert len(messages(caplog, "building")) == 1
    write_wheel(tmp_path / "wheels", "tiny", "2.0")
    other = find_interpreter(check_python_env(None, requirements=[*lines[:2], "tiny==2.0"]))
    assert ask(other, "import tiny; print(tiny.VERSION)") == "2.0" and other != python


@pytest.mark.builds
@pytest.mark.parametrize("version", ["3.6", "3.8"])
def test_requirements_are_installed_for_another_python(tmp_path, version):
    if find_python(version) is None:
        pytest.skip(f"no Python {version} on this machine")
    python = find_interpreter(check_python_env(None, requirements=["six==1.16.0"], python_version=version))
    compiled = "from importlib import util; import os; print(os.path.exists(util.find_spec('six').cached))"
    assert ask(python, compiled) == str(version != "3.6")  # uv's compiler does not run there
    assert ask(python, "import six, sys; print('%d.%d' % sys.version_info[:2])") == version


def test_a_python_that_is_not_there_is_an_error_with_uvs_words():
    with pytest.raises(ScriptEnvironmentError, match=r"uv venv .+--python 3\.77 .+ failed .+\n.+3\.77"):
        find_interpreter(check_python_env(None, requirements=["six"], python_version="3.77"))


def test_a_worker_without_uv_says_how_to_get_it(monkeypatch):
    folders = [folder for folder in os.get_exec_path() if not os.path.exists(f"{folder}/uv")]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    monkeypatch.setitem(sys.modules, "uv", None)
    with pytest.raises(ScriptEnvironmentError, match=r"with six cannot be built: uv, .+ in PATH .+: pip install uv\."):
        find_interpreter(check_python_env(None, requirements=["six"]))


@pytest.mark.builds
def test_a_failed_build_shows_the_tools_words_without_secrets(tmp_path, cache, monkeypatch, caplog):
    monkeypatch.setenv("MY_PASSWORD", "hunter2")
    monkeypatch.setenv("PIP_RETRIES", "1")
    links = "--find-links=http://me:${MY_PASSWORD}@127.0.0.1:9/wheels?token=${MY_PASSWORD}"
    env = check_python_env(None, requirements=["--no-index", links, "no-such-package-anywhere==1.0"])
    with pytest.raises(ScriptEnvironmentError) as failed:
        find_interpreter(env)
    text = str(failed.value)
    assert "pip install" in text and "exit status" in text and "127.0.0.1" in text
    for shown in (text, repr(env), str(env), caplog.text):
        assert "hunter2" not in shown
    assert all(name.endswith(".failed") for name in entries(cache))
    assert all("hunter2" not in path.read_text() for path in cache.glob("*.failed"))


@pytest.mark.parametrize("where", ["variables", "file"])
def test_what_pip_is_told_holds_for_uv_too(tmp_path, monkeypatch, where):
    links = write_wheel(tmp_path / "wheels", "tiny").partition("=")[2]
    if where == "variables":
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", f"/opt {links}")
    else:
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        (tmp_path / "pip.conf").write_text(
            f"[global]\nno-index = true\n[install]\nfind-links =\n    /opt\n    {links}\n"
        )
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    python = find_interpreter(check_python_env(None, requirements=["tiny"]))
    assert ask(python, "import tiny; print(tiny.VERSION)") == "1.0"
    with pytest.raises(ScriptEnvironmentError, match="six .*not found"):  # no index is asked
        find_interpreter(check_python_env(None, requirements=["six"]))


def test_uv_is_told_of_pips_indexes():
    told = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://a/simple",
        "PIP_EXTRA_INDEX_URL": "https://b  https://c",
    }
    assert uv_variables(pip_settings(told)) == {
        "UV_DEFAULT_INDEX": "https://a/simple",
        "UV_INDEX": "https://b https://c",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


FIND = """
import logging, sys
logging.basicConfig(format="%(message)s", level="INFO", stream=sys.stdout)
from beam_tfscript.python_env.environment import find_interpreter
from beam_tfscript.python_env.python_env import check_python_env
print("found", find_interpreter(check_python_env(sys.argv[1])))
"""


class Harness:
    """Another process on this machine that needs the environment, as another SDK harness would be."""

    def __init__(self, archive: str, output: pathlib.Path):
        self._output = output
        with open(output, "w") as file:
            self.process = subprocess.Popen([sys.executable, "-c", FIND, archive], stdout=file, stderr=file)

    def text(self) -> str:
        return self._output.read_text()

    def wait(self) -> str:
        self.process.wait(_PATIENCE_S)
        return self.text()


@contextlib.contextmanager
def harness(archive, tmp_path, name):
    started = Harness(archive, tmp_path / f"{name}.log")
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def wait_until(condition):
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


# Says that it is there, and ends when it is told to: in the middle of a build for as long as the test wants.
HOLD = """
import os, sys, time
open({pid!r}, "w").write(str(os.getpid()))
end = time.monotonic() + 60
while not os.path.exists({go!r}) and time.monotonic() < end:
    time.sleep(0.02)
sys.exit({code})
"""


def pack_slow(tmp_path, name="env.tar.gz", code=0):
    """An archive whose build waits for the file `go`, in a tool whose process id it writes to the file `pid`."""
    hold = HOLD.format(pid=str(tmp_path / "pid"), go=str(tmp_path / "go"), code=repr(code))
    return pack_wrapper(tmp_path / name, {"bin/conda-unpack": hold})


@pytest.mark.builds
def test_two_harnesses_build_it_once_and_the_other_says_whom_it_waits_for(tmp_path):
    archive = pack_slow(tmp_path)
    with harness(archive, tmp_path, "one") as one:
        wait_until((tmp_path / "pid").exists)
        with harness(archive, tmp_path, "two") as two:
            wait_until(lambda: f"waiting for process {one.process.pid} on" in two.text())
            (tmp_path / "go").touch()
            first, second = one.wait(), two.wait()
    assert "building" in first and "building" not in second
    assert first.splitlines()[-1] == second.splitlines()[-1] and first.splitlines()[-1].startswith("found")


@pytest.mark.builds
def test_who_waited_for_a_build_that_failed_fails_alike_without_building(tmp_path):
    archive = pack_slow(tmp_path, code="out of luck")
    with harness(archive, tmp_path, "one") as one:
        wait_until((tmp_path / "pid").exists)
        with harness(archive, tmp_path, "two") as two:
            wait_until(lambda: "waiting for" in two.text())
            (tmp_path / "go").touch()
            first, second = one.wait(), two.wait()
    assert "out of luck" in first and "out of luck" in second
    assert "building" in first and "building the" not in second.replace("which builds", "")


@pytest.mark.builds
def test_doesnt_use_what_a_killed_builder_left(tmp_path, cache):
    archive = pack_slow(tmp_path)
    with harness(archive, tmp_path, "one") as one:
        wait_until((tmp_path / "pid").exists)
        one.process.send_signal(signal.SIGKILL)
        one.process.wait()
    (left,) = (path for path in cache.iterdir() if path.is_dir())
    assert (left / "env/bin/python").exists()
    (left / "env/half").touch()
    with harness(archive, tmp_path, "two") as two:
        # The builder's tool is still at work there, and nobody else may be until it has ended.
        wait_until(lambda: "waiting for" in two.text())
        assert (left / "env/half").exists()
        (tmp_path / "go").touch()
        text = two.wait()
    assert "building" in text and "found" in text.splitlines()[-1]
    assert not (left / "env/half").exists()


@pytest.mark.builds
def test_what_a_killed_builder_left_is_removed_by_the_next_of_any(tmp_path, cache):
    with harness(pack_slow(tmp_path), tmp_path, "one") as one:
        wait_until((tmp_path / "pid").exists)
        one.process.send_signal(signal.SIGKILL)
        one.process.wait()
    (left,) = (path for path in cache.iterdir() if path.is_dir())
    find_interpreter(check_python_env(pack_wrapper(tmp_path / "other.tar.gz")))
    assert left.exists(), "its tool is still at work"
    (tmp_path / "go").touch()
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    find_interpreter(check_python_env(pack_wrapper(tmp_path / "third.tar.gz", {"more": "x"})))
    assert not left.exists() and len([path for path in cache.iterdir() if path.is_dir()]) == 2


def make_old(cache: pathlib.Path) -> None:
    """All entries of the cache were last used half a year ago."""
    for marker in cache.glob("*/complete"):
        os.utime(marker, (time.time() - 180 * 86400,) * 2)


def build_another(tmp_path) -> str:
    """Builds an environment that was never there, which is when old ones are removed."""
    return find_interpreter(check_python_env(pack_wrapper(tmp_path / "another.tar.gz", {"new": str(time.time())})))


def test_what_nobody_uses_for_long_is_removed_and_built_again(tmp_path, cache, caplog):
    env = check_python_env(pack_wrapper(tmp_path / "env.tar.gz"))
    python = find_interpreter(env)
    make_old(cache)
    newer = build_another(tmp_path)
    assert not os.path.exists(python) and os.path.exists(newer)
    assert messages(caplog, f"removed {pathlib.Path(python).parent.parent.parent} from the cache")
    assert find_interpreter(env) == python and os.path.exists(python)


def test_what_is_used_is_young_again(tmp_path, cache):
    env = check_python_env(pack_wrapper(tmp_path / "env.tar.gz"))
    python = find_interpreter(env)
    make_old(cache)
    assert find_interpreter(env) == python
    build_another(tmp_path)
    assert os.path.exists(python)


def test_what_a_live_process_runs_in_is_not_removed(tmp_path, cache):
    python = find_interpreter(check_python_env(pack_wrapper(tmp_path / "env.tar.gz")))
    marker = env_cache.use_marker(python)
    assert marker == str(next(cache.glob("*/complete")))
    spec = ProcessSpec("key", "score.py", python, str(tmp_path), {}, 0, _PATIENCE_S, use_marker=marker)
    guardian = Guardian(str(tmp_path))
    process = ScriptProcess.start(spec, str(tmp_path), guardian)
    os.kill(process.pid, signal.SIGSTOP)  # it would find no runtime, and end
    try:
        make_old(cache)
        build_another(tmp_path)
        assert os.path.exists(python)
    finally:
        process.kill()
        guardian.close()
    make_old(cache)
    build_another(tmp_path)
    assert not os.path.exists(python)


def test_how_long_things_are_kept_is_a_setting(tmp_path, cache, monkeypatch):
    python = find_interpreter(check_python_env(pack_wrapper(tmp_path / "env.tar.gz")))
    monkeypatch.setenv("BEAM_TFSCRIPT_CACHE_DAYS", "0")
    make_old(cache)
    build_another(tmp_path)
    assert os.path.exists(python)
    monkeypatch.setenv("BEAM_TFSCRIPT_CACHE_DAYS", "179.5")
    build_another(tmp_path)
    assert not os.path.exists(python)
    monkeypatch.setenv("BEAM_TFSCRIPT_CACHE_DAYS", "a month")
    with pytest.raises(ScriptEnvironmentError, match="BEAM_TFSCRIPT_CACHE_DAYS must be a number of days.*'a month'"):
        build_another(tmp_path)


def test_a_tool_that_hangs_is_ended(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("beam_tfscript.python_env.building.BUILD_TIMEOUT_S", 1.0)
    monkeypatch.setattr("beam_tfscript.python_env.building.NOTICE_S", 0.4)
    with pytest.raises(ScriptEnvironmentError, match="conda-unpack` was ended after 1 s"):
        find_interpreter(check_python_env(pack_slow(tmp_path)))
    assert messages(caplog, "still building the environment")
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text()}")


@pytest.mark.builds
def test_a_waiter_gives_up_with_the_builders_name(tmp_path, monkeypatch):
    archive = pack_slow(tmp_path)
    monkeypatch.setattr("beam_tfscript.files.machine_cache._WAIT_TIMEOUT_S", 0.5)
    with harness(archive, tmp_path, "one") as one:
        wait_until((tmp_path / "pid").exists)
        with pytest.raises(ScriptEnvironmentError, match=f"still being built by process {one.process.pid} on"):
            find_interpreter(check_python_env(archive))
        (tmp_path / "go").touch()
        one.wait()


def test_what_was_partly_cleaned_away_is_built_again(tmp_path, caplog):
    env = check_python_env(pack_wrapper(tmp_path / "env.tar.gz"))
    python = find_interpreter(env)
    os.unlink(python)
    assert find_interpreter(env) == python and os.path.exists(python)
    assert len(messages(caplog, "building")) == 2


@pytest.fixture
def running(tmp_path):
    """Starts a process in an interpreter of the cache, where it stays until the test ends it."""
    started = []
    (tmp_path / "guarded").mkdir()
    guardian = Guardian(str(tmp_path / "guarded"))

    def run(python: str) -> ScriptProcess:
        marker = env_cache.use_marker(python)
        spec = ProcessSpec("key", "score.py", python, str(tmp_path), {}, 0, _PATIENCE_S, use_marker=marker)
        started.append(ScriptProcess.start(spec, str(tmp_path), guardian))
        os.kill(started[-1].pid, signal.SIGSTOP)  # it would find no runtime, and end
        return started[-1]

    yield run
    for process in started:
        process.kill()
    guardian.close()


def look_again(env) -> str:
    """The interpreter that a worker process finds that has just been started."""
    environment._found.clear()
    return find_interpreter(env)


def test_an_environment_that_lost_some_files_is_built_again(tmp_path, caplog):
    env = check_python_env(pack_python(tmp_path / "env.tar.gz"))
    python = pathlib.Path(find_interpreter(env))
    lost = next(python.parent.parent.glob("lib/python3*/json/decoder.py"))
    lost.unlink()
    next(python.parent.parent.glob("lib/python3*/bdb.py")).unlink()
    assert find_interpreter(env) == str(python), "a worker process looks once"
    assert look_again(env) == str(python)
    assert ask(str(python), "import json; print(json.loads('1'))") == "1"
    (told,) = messages(caplog, f"the environment {tmp_path}/env.tar.gz in ")
    assert "is damaged, and is built again: 2 of its " in told and "files are gone" in told
    assert told.endswith("set BEAM_TFSCRIPT_CACHE to a directory that it does not clean.")
    assert look_again(env) == str(python)
    assert len(messages(caplog, "building")) == 2


@pytest.mark.parametrize("fault", ["short", "no list", "short list", "broken"])
def test_an_environment_that_cannot_be_whole_is_built_again(tmp_path, cache, caplog, fault):
    env = check_python_env(pack_wrapper(tmp_path / "env.tar.gz", {"lib/more.so": "more"}))
    python = pathlib.Path(find_interpreter(env))
    (entry,) = (path for path in cache.iterdir() if path.is_dir())
    if fault == "short":
        (entry / "env/lib/more.so").write_text("")  # as after a power cut
    elif fault == "no list":
        (entry / "manifest").unlink()
    elif fault == "short list":
        (entry / "manifest").write_text((entry / "manifest").read_text()[:-15])
    else:
        python.write_text(python.read_text().replace(sys.executable, "/nowhere/python".ljust(len(sys.executable), "_")))
    assert look_again(env) == str(python)
    assert ask(str(python), "print(1)") == "1" and (entry / "env/lib/more.so").read_text() == "more"
    assert len(messages(caplog, "building")) == 2


def test_what_scripts_add_to_an_environment_is_no_damage(tmp_path, caplog):
    env = check_python_env(pack_wrapper(tmp_path / "env.tar.gz", {"lib/notes": "a", "lib/__pycache__/m.pyc": "b"}))
    lib = pathlib.Path(find_interpreter(env)).parent.parent / "lib"
    (lib / "notes").write_text("more than before")
    (lib / "added").write_text("new")
    (lib / "__pycache__/m.pyc").unlink()
    assert look_again(env) == str(lib.parent / "bin/python")
    assert len(messages(caplog, "building")) == 1


@pytest.mark.parametrize("fault", ["busy", "slow"])
def test_an_interpreter_that_does_not_start_just_now_is_not_thrown_away(tmp_path, caplog, monkeypatch, fault):
    env = check_python_env(pack_wrapper(tmp_path / "env.tar.gz"))
    python = find_interpreter(env)
    if fault == "busy":
        program = pathlib.Path(python).read_text()
        pathlib.Path(python).write_text("#!/bin/sh\nkill -9 $$\n".ljust(len(program)))
    else:
        monkeypatch.setattr("beam_tfscript.python_env.interpreters._START_TIMEOUT_S", 0.0)
    assert look_again(env) == python
    assert len(messages(caplog, "building")) == 1 and messages(caplog, f"cannot check that {python} starts")


def test_a_damaged_environment_is_left_to_those_who_run_in_it(tmp_path, cache, caplog, running):
    env = check_python_env(pack_wrapper(tmp_path / "env.tar.gz", {"lib/lost": "x", "lib/kept": "x"}))
    old = pathlib.Path(find_interpreter(env))
    process = running(str(old))
    (old.parent.parent / "lib/lost").unlink()
    new = pathlib.Path(look_again(env))
    assert new != old and (new.parent.parent / "lib/lost").exists()
    assert process.returncode is None and old.exists() and (old.parent.parent / "lib/kept").exists()
    assert messages(
        caplog, f"the environment {env} is built beside {old.parents[2]}, because processes still run there"
    )
    # From now on, every process finds the new one, also while the new one is in use.
    running(str(new))
    assert look_again(env) == str(new)
    assert len(messages(caplog, "building")) == 2
    build_another(tmp_path)
    assert old.exists()
    # When the last has ended, the damaged one goes, though it is young. The new one stays.
    process.kill()
    build_another(tmp_path)
    assert not old.exists() and new.exists()
    assert look_again(env) == str(new)


def test_what_is_damaged_again_and_again_under_live_processes_ends_with_an_error(tmp_path, monkeypatch, running):
    monkeypatch.setattr("beam_tfscript.files.machine_cache._MAX_FURTHER", 1)
    env = check_python_env(pack_wrapper(tmp_path / "env.tar.gz", {"lib/lost": "x"}))
    for _ in range(2):
        python = pathlib.Path(look_again(env))
        running(str(python))
        (python.parent.parent / "lib/lost").unlink()
    with pytest.raises(
        ScriptEnvironmentError, match="was damaged 2 times .+ end those processes.+ BEAM_TFSCRIPT_CACHE"
    ):
        look_again(env)


@pytest.fixture
def locks_of_nfs(monkeypatch):
    """Locks as NFS gives them: it makes ranges of bytes of them, which ask for a descriptor that can do the same."""
    flock = fcntl.flock

    def lock(file, operation):
        access = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        refused = {fcntl.LOCK_EX: os.O_RDONLY, fcntl.LOCK_SH: os.O_WRONLY}
        if refused.get(operation & ~fcntl.LOCK_NB) == access:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", lock)


def test_what_nobody_uses_for_long_is_removed_from_nfs_too(tmp_path, cache, locks_of_nfs, running):
    used = find_interpreter(check_python_env(pack_wrapper(tmp_path / "used.tar.gz", {"more": "x"})))
    unused = find_interpreter(check_python_env(pack_wrapper(tmp_path / "env.tar.gz")))
    running(used)
    make_old(cache)
    build_another(tmp_path)
    assert os.path.exists(used) and not os.path.exists(unused)


def test_an_entry_that_this_user_cannot_lock_stays(tmp_path, cache):
    python = find_interpreter(check_python_env(pack_wrapper(tmp_path / "env.tar.gz")))
    make_old(cache)
    for marker in cache.glob("*/complete"):
        marker.chmod(0o444)  # of the user who built the image
    run_unprivileged("import sys; from beam_tfscript.files import cache_removal as c; c.sweep(sys.argv[1])", str(cache))
    assert os.path.exists(python)


def test_what_is_there_is_used_without_writing_to_the_cache(tmp_path, cache):
    env = check_python_env(pack_wrapper(tmp_path / "env.tar.gz"))
    python = find_interpreter(env)
    environment._found.clear()
    (tmp_path / "env.tar.gz").unlink()
    for path in [cache, *cache.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else path.stat().st_mode & 0o555)
    before = {path: path.stat().st_mtime_ns for path in [cache, *cache.rglob("*")]}
    assert find_interpreter(env) == python
    assert {path: path.stat().st_mtime_ns for path in [cache, *cache.rglob("*")]} == before
    for path in [cache, *cache.rglob("*")]:
        path.chmod(0o755)


@pytest.mark.parametrize("has_list", [True, False], ids=["as it is built now", "as earlier versions built it"])
def test_a_read_only_cache_is_used_as_it_is(tmp_path, cache, has_list):
    archive = pack_wrapper(tmp_path / "env.tar.gz")
    python = find_interpreter(check_python_env(archive))
    make_old(cache)
    if not has_list:
        next(cache.glob("*/manifest")).unlink()
    for path in [cache, *cache.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o555)
    assert run_unprivileged(FIND, archive) == f"found {python}\n"
    for path in [cache, *cache.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_TFSCRIPT_CACHE", "/proc/beam_tfscript")
    with pytest.raises(ScriptEnvironmentError, match="cannot be built in /proc/beam_tfscript.+Set BEAM_TFSCRIPT_CACHE"):
        find_interpreter(check_python_env(pack_wrapper(tmp_path / "env.tar.gz")))


@pytest.mark.parametrize("fault", ["writable", "link"])
def test_a_cache_that_others_could_have_filled_is_refused(tmp_path, cache, fault):
    (tmp_path / "real").mkdir()
    (tmp_path / "real").chmod(0o777 if fault == "writable" else 0o700)
    (tmp_path / "real").rename(cache) if fault == "writable" else cache.symlink_to(tmp_path / "real")
    with pytest.raises(ScriptEnvironmentError, match="others could put programs there|is a link"):
        find_interpreter(check_python_env(pack_wrapper(tmp_path / "env.tar.gz")))


def test_the_cache_is_where_the_variables_say(tmp_path, monkeypatch, scratch_parent):
    archive = pack_wrapper(tmp_path / "env.tar.gz")
    monkeypatch.delenv("BEAM_TFSCRIPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert find_interpreter(check_python_env(archive)).startswith(str(tmp_path / "xdg/beam_tfscript/archive-"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    environment._found.clear()
    place = scratch_parent / f"beam_tfscript_envs-{os.getuid()}"
    assert find_interpreter(check_python_env(archive)).startswith(f"{place}/archive-")
    assert place.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"python_env": ""}, "path or URI"),
        ({"python_env": 3}, "path or URI of an environment, or None, got int"),
        ({"python_env": "/no/such/env.tar.gz"}, "python_env: there is no file '/no/such/env.tar.gz'"),
        ({"python_env": "/usr/lib"}, "with an interpreter bin/python in it, got '/usr/lib'"),
        ({"python_env": __file__}, "directory or an archive of one: .+test_script_environment.py' is not an archive"),
        (
            {"python_env": "res://beam_tfscript/runtime"},
            r"'res://beam_tfscript/runtime' must be an archive, one of",
        ),
        ({"python_env": "http://127.0.0.1:9/env"}, "must be an archive, one of .zip"),
        ({"python_env": "http://127.0.0.1:9/env.tar.zst"}, "must be an archive"),
        ({"python_env": "nosuch://bucket/env.zip"}, "no file system is known"),
        ({"python_env": "/env", "requirements": ["six"]}, "give only one of them"),
        ({"python_env": "/env", "python_version": "3.8"}, r"python_version='3.8' .+ needs requirements=\[…\]"),
        ({"python_version": "3.8"}, "needs requirements"),
        ({"requirements": []}, r"must be a list of lines .+, got \[\]"),
        ({"requirements": "six"}, "must be a list of lines .+, got 'six'"),
        ({"requirements": [6]}, "got 6 in it"),
        ({"requirements": ["six\nfive"]}, "in it"),
        ({"requirements": ["six=1.0"]}, "got 'six=1.0' in it"),
        (
            {"requirements": ["a @ https://me:hunter2@host/a.whl"]},
            r"://\*\*\*@host/a.whl' has a password.+PIP_INDEX_URL",
        ),
        ({"requirements": ["--index-url=https://ghp_hunter2@host/"]}, "has a password"),
        ({"requirements": ["-r more.txt"]}, "list its lines instead"),
        ({"requirements": ["--constraint=more.txt"]}, "list its lines instead"),
        ({"requirements": ["six"], "python_version": 3.8}, "must be text such as .+, got 3.8"),
        ({"requirements": ["six"], "python_version": "3"}, "got '3'"),
        ({"requirements": ["six"], "python_version": ">=3.8"}, "got '>=3.8'"),
        ({"requirements": ["six"], "python_version": "3.5"}, "3.6 or newer, got '3.5'"),
        ({"requirements": ["six"], "python_version": "2.7"}, "got '2.7'"),
    ],
)
def test_rejects_while_the_pipeline_is_built(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        check_python_env(**{"python_env": None, **arguments})


def test_takes_the_forms_of_a_requirements_file():
    lines = ["six", "tensorflow[and-cuda]==2.15.1; python_version>='3.9'", "a @ https://host/a.whl", "--pre"]
    lines += ["git+ssh://git@host/me/it", "--index-url=https://me:${SECRET}@host/"]
    lines += ["https://host/b-1.0-py3-none-any.whl", "six==1.16.0 --hash=sha256:00"]
    assert check_python_env(None, requirements=lines).requirements == tuple(lines)


def test_a_value_shows_no_secrets(tmp_path):
    (tmp_path / "web").mkdir()
    pack_wrapper(tmp_path / "web/env.tar.gz")
    with web_server(tmp_path / "web", []) as address:
        env = check_python_env(f"{address}/env.tar.gz?token=hunter2")
    python = find_interpreter(pickle.loads(pickle.dumps(env)))
    assert b"hunter2" not in pickle.dumps(env) and "hunter2" not in repr(env) + str(env) + python
    assert "env.tar.gz?token=***" in str(env)
