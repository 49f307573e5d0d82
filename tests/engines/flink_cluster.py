"""A Flink session cluster: a JobManager here, TaskManagers on machines of their own, and a worker pool on each.

Flink's own jars are from the package that PyFlink installs them by; Beam's runner is from Maven, as for the embedded
Flink (`flink.py`).
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

from tests.engines import beam_boot, flink
from tests.engines.machines import HOST, Machine, machines
from tests.engines.tools import BUILD, SHORT_LIVED, find_tool
from tests.uv import run_uv

_LIBRARIES = "apache-flink-libraries==1.19.3"
_JARS = BUILD / "flink-cluster"
_CLASSES = BUILD / "flink-cluster-classes"
_NO_UPLOAD = pathlib.Path(__file__).parent / "java" / "ClasspathScanningResourcesDetector.java"
_ROOT = pathlib.Path(__file__).parents[2]
_REST_PORT, _POOL_PORT = 18081, 50700
_START_S = 120.0
_JOB_END_S = 120.0
# Without a configuration, only errors are logged.
_LOGGING = """
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss.SSS} %-5p %c{1} %m%n
"""
# Every part of a TaskManager's memory, as where a script would compute them.
_MEMORY = {
    "framework.heap.size": "128m", "framework.off-heap.size": "64m", "task.heap.size": "256m",
    "task.off-heap.size": "32m", "network.min": "64m", "network.max": "64m", "managed.size": "64m",
    "jvm-metaspace.size": "256m", "jvm-overhead.min": "64m", "jvm-overhead.max": "64m",
}  # fmt: skip


def build() -> None:
    """Get the jars."""
    flink.build()
    beam_boot.find_boot()
    _compile()
    done = _JARS / "installed"
    if not done.exists() or done.read_text() != _LIBRARIES:
        run_uv("pip", "install", "--no-deps", "--reinstall", "--target", str(_JARS), _LIBRARIES)
        done.write_text(_LIBRARIES)


def _compile() -> None:
    """Compile what the job server has instead of a class of Beam's."""
    source = _NO_UPLOAD.read_text()
    done = _CLASSES / "compiled"
    if done.exists() and done.read_text() == source:
        return
    javac = find_tool("javac", engine="Flink")
    subprocess.run([javac, "-cp", f"{flink.JARS}/*", "-d", _CLASSES, _NO_UPLOAD], check=True)
    done.write_text(source)


class FlinkCluster:
    """A running cluster.

    Attributes:
      machines: those of the TaskManagers.
      shared: a directory that all see.
    """

    def __init__(
        self,
        task_machines: list[Machine],
        directory: pathlib.Path,
        shared: pathlib.Path,
        slots: int,
        settings: dict[str, str] | None,
    ):
        self._settings = settings or {}
        self.machines = task_machines
        self.shared = shared
        self._directory = directory
        self._slots = slots
        self._jobmanager = self._start_here("jobmanager", "entrypoint.StandaloneSessionClusterEntrypoint", {})
        self._task_managers: dict[int, subprocess.Popen] = {}
        self._pools = [self._start_pool(machine) for machine in task_machines]
        for number in range(len(task_machines)):
            self.start_task_manager(number)
        self.wait_until(lambda: self.get("/overview")["taskmanagers"] == len(task_machines), _START_S)

    def make_shared_directory(self) -> pathlib.Path:
        """Make a directory that all see, and may write to."""
        directory = self.shared / uuid.uuid4().hex
        directory.mkdir()
        directory.chmod(0o777)
        return directory

    def start_task_manager(self, number: int) -> None:
        """Start the TaskManager of a machine."""
        machine = self.machines[number]
        settings = {"taskmanager.host": machine.address, "taskmanager.bind-host": "0.0.0.0"}
        settings.update({f"taskmanager.memory.{name}": size for name, size in _MEMORY.items()})
        settings.update({"taskmanager.cpu.cores": "1.0", "taskmanager.numberOfTaskSlots": str(self._slots)})
        command = self._java("taskexecutor.TaskManagerRunner", settings, machine.directory, memory_mb=512)
        self._task_managers[number] = machine.start("taskmanager", command)

    def kill_task_manager(self, number: int) -> None:
        """Kill the TaskManager of a machine."""
        process = self._task_managers.pop(number)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def options(self, parallelism: int) -> list[str]:
        """Pipeline options beside the job server's address."""
        return [
            "--environment_type=EXTERNAL", f"--environment_config=localhost:{_POOL_PORT}",
            f"--parallelism={parallelism}",
        ]  # fmt: skip

    def job_server_command(self, directory: pathlib.Path) -> list[str]:
        """The command of a job server that submits to this cluster."""
        # TaskManagers read the artifacts of a job from the directory that the job server writes them to.
        artifacts = self.make_shared_directory()
        replaced = {"--flink-master": f"{HOST}:{_REST_PORT}", "--artifacts-dir": artifacts}
        options = (part.partition("=") for part in flink.command(directory))
        command = [f"{name}={replaced.get(name, value)}" if equals else name for name, equals, value in options]
        jars = command.index("-cp") + 1
        command[jars] = f"{_CLASSES}{os.pathsep}{command[jars]}"
        return command

    def get(self, path: str) -> Any:
        """Return an answer of the REST interface."""
        with urllib.request.urlopen(f"http://{HOST}:{_REST_PORT}{path}", timeout=10) as answer:
            return json.load(answer)

    def send(self, path: str, value: Any = None, method: str = "POST") -> Any:
        """Send something to the REST interface."""
        data = None if value is None else json.dumps(value).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{HOST}:{_REST_PORT}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def jobs(self) -> dict[str, str]:
        """Job -> its status."""
        return {job["id"]: job["status"] for job in self.get("/jobs")["jobs"]}

    def completed_checkpoints(self, job: str) -> int:
        """Return the number of complete checkpoints of a job."""
        return self.get(f"/jobs/{job}/checkpoints")["counts"]["completed"]

    def restored(self, job: str) -> str | None:
        """Return the path of the checkpoint or savepoint that a job was last restored from."""
        latest = self.get(f"/jobs/{job}/checkpoints")["latest"]["restored"]
        return None if latest is None else latest["external_path"]

    def stop(self, job: str, *, drain: bool) -> str:
        """Stop a job with a savepoint; return its path."""
        deadline = time.monotonic() + _JOB_END_S
        while True:
            operation = self._try_stop(job, drain=drain)
            if "location" in operation:
                return operation["location"]
            # A job that just restarts, as one may on a busy machine, can be stopped when all its tasks run again.
            cause = str(operation)[:2000]
            assert "Not all required tasks are currently running" in cause and time.monotonic() < deadline, cause
            time.sleep(0.5)

    def _try_stop(self, job: str, *, drain: bool) -> dict[str, Any]:
        target = {"targetDirectory": f"file://{self.shared}/savepoints", "drain": drain}
        trigger = self.send(f"/jobs/{job}/stop", target)["request-id"]
        status: dict[str, Any] = {}

        def is_done() -> bool:
            status.update(self.get(f"/jobs/{job}/savepoints/{trigger}"))
            return status["status"]["id"] == "COMPLETED"

        self.wait_until(is_done, _JOB_END_S)
        return status["operation"]

    def cancel(self, job: str) -> None:
        """Cancel a job."""
        self.send(f"/jobs/{job}?mode=cancel", method="PATCH")

    def wait_until(self, is_true: Any, timeout_s: float) -> None:
        """Wait until something is true of the cluster; errors on the way count as not yet."""
        deadline = time.monotonic() + timeout_s
        while True:
            assert self._jobmanager.poll() is None, f"the JobManager has ended; its log is in {self._directory}"
            with contextlib.suppress(OSError, KeyError):
                if is_true():
                    return
            assert time.monotonic() < deadline, f"not so after {timeout_s:g} s; {self._describe_failures()}"
            time.sleep(0.2)

    def _describe_failures(self) -> str:
        """Return the last error of each job that goes on, and where logs are."""
        lines = [f"logs are in {self._directory}"]
        for job, status in self.jobs().items():
            if status not in ("FINISHED", "CANCELED"):
                errors = self.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
                lines += [f"job {job} is {status}", *(error["stacktrace"][-2000:] for error in errors[:1])]
        return "\n".join(lines)

    def close(self) -> None:
        """End the JobManager; the rest goes with its machines."""
        os.killpg(self._jobmanager.pid, signal.SIGKILL)
        self._jobmanager.wait()

    def _start_pool(self, machine: Machine) -> subprocess.Popen:
        # Beam's boot program starts workers by the `python` that is on the PATH, and fetches the job's artifacts.
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        boot = machine.directory / "boot"
        boot.write_text(f'#!/bin/sh\nexec {beam_boot.find_boot()} "$@" --semi_persist_dir={machine.directory}\n')
        boot.chmod(0o755)
        module = "apache_beam.runners.worker.worker_pool_main"
        command = [sys.executable, "-m", module, f"--service_port={_POOL_PORT}", f"--container_executable={boot}"]
        variables = {"PATH": path, "PYTHONPATH": str(_ROOT), "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1"}
        return machine.start("pool", command, variables)

    def _start_here(self, name: str, main: str, settings: dict[str, str]) -> subprocess.Popen:
        directory = self._directory / name
        directory.mkdir()
        command = self._java(main, settings, directory, memory_mb=512)
        with open(directory / "log", "wb") as log:
            return subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, umask=0,  # the machines' users write to directories of checkpoints made here
            )  # fmt: skip

    def _java(self, main: str, settings: dict[str, str], directory: pathlib.Path, *, memory_mb: int) -> list[str]:
        """The command of one of Flink's programs, and its settings in a directory."""
        settings = {
            "jobmanager.rpc.address": HOST, "jobmanager.bind-host": "0.0.0.0", "jobmanager.rpc.port": "16123",
            "rest.address": HOST, "rest.bind-address": HOST, "rest.port": str(_REST_PORT),
            "heartbeat.interval": "1000", "heartbeat.timeout": "6000", "cluster.evenly-spread-out-slots": "true",
            "state.checkpoints.dir": f"file://{self.shared}/checkpoints",
            "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
            "io.tmp.dirs": str(directory), **self._settings, **settings,
        }  # fmt: skip
        (directory / "flink-conf.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
        (directory / "log4j2.properties").write_text(_LOGGING)
        beam = [jar for jar in glob.glob(str(flink.JARS / "*.jar")) if not os.path.basename(jar).startswith("flink-")]
        jars = [*glob.glob(str(_JARS / "pyflink" / "lib" / "*.jar")), *beam]
        return [
            find_tool("java", engine="Flink"), f"-Xmx{memory_mb}m", *SHORT_LIVED, *flink.OPENED,
            f"-Dlog4j.configurationFile={directory}/log4j2.properties", "-cp", os.pathsep.join(jars),
            f"org.apache.flink.runtime.{main}", "--configDir", str(directory),
        ]  # fmt: skip


class JobServer:
    """The job server of a cluster, as an engine is described."""

    NAME, ANNOUNCEMENT = "Flink cluster", flink.ANNOUNCEMENT

    def __init__(self, cluster: FlinkCluster):
        self.command = cluster.job_server_command


@contextlib.contextmanager
def flink_cluster(
    directory: pathlib.Path, *, num_machines: int = 2, slots: int = 2, settings: dict[str, str] | None = None
) -> Iterator[FlinkCluster]:
    """A cluster, with further settings of Flink, while the block lasts."""
    shared = directory / "shared"
    shared.mkdir()
    shared.chmod(0o777)  # the machines' users differ
    with machines(num_machines, directory, shared=shared) as made:
        cluster = None
        try:
            cluster = FlinkCluster(made, directory, shared, slots, settings)
            yield cluster
        finally:
            if cluster is not None:
                cluster.close()
