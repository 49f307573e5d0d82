"""Tasks of one cluster on several machines: they meet, run, fail and end together, by notes that all machines see.

One `Meeting` belongs to one share: the tasks that one bundle has. It is the `Layout` of a cluster that is spread.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beam_tfscript.cluster.addresses import join_host_port, own_addresses
from beam_tfscript.cluster.notes import Join, Roster, find_roster
from beam_tfscript.cluster.ports import HeldPorts
from beam_tfscript.cluster.tf_config import Task, make_addresses, make_tasks
from beam_tfscript.data.checksum import RowsChecksum
from beam_tfscript.errors import ScriptEnvironmentError, TFScriptError
from beam_tfscript.feeds import notice_board
from beam_tfscript.feeds.assembly import Assembly
from beam_tfscript.feeds.notice_board import NoticeBoard
from beam_tfscript.feeds.peers import Peers, Report
from beam_tfscript.feeds.retries import RETRYABLE
from beam_tfscript.feeds.shared_failures import PeerFailed, TaskLost, decode_failure, encode_failure, find_root
from beam_tfscript.files.old_directories import remove_old
from beam_tfscript.files.shared_directory import SharedDirectory, cluster_directory
from beam_tfscript.options.cluster_options import ClusterOptions
from beam_tfscript.options.script_options import ScriptOptions

_LOGGER = logging.getLogger(__name__)

# How long all shares may take to note their part in a failure. They kill their processes first; one that is dead is
# noticed by its heartbeat before.
_SETTLE_S = 60.0
# How long the tasks of an attempt may wait for one that was lost: a runner repeats a lost bundle soon, or never.
# Shorter than the time in which Flink has a task of a job that restarts end (task.cancellation.timeout, 180 s).
REJOIN_S = 120.0


# Age at which the directory of a cluster is removed as that of a killed job.
_ABANDONED_S = 7 * 24 * 3600.0


def notes_directory(options: ScriptOptions, window: tuple[float, float] | None, pane: int) -> str:
    """Return the directory in which the tasks of one cluster meet: that of a transform, a window and a pane."""
    assert options.meeting_dir is not None
    token = hashlib.sha256(f"{window} {pane}".encode()).hexdigest()[:16]
    return cluster_directory(options.meeting_dir, options.key, f"notes-{token}")


class Replaced(ScriptEnvironmentError):
    """The runner has begun the bundle of a share again, elsewhere: this one ends, and tells nobody."""


class Meeting:
    """One share of a cluster; a context manager, and a `Layout` whose attributes it has.

    Args:
      cluster: the cluster's arguments.
      max_attempts: of the cluster.
      tasks: the share's tasks.
      directory: path of the cluster's directory of notes, on any of Beam's file systems.
      rows: `lengths`, `checksum` and `files` of `Join`.

    Raises:
      ScriptEnvironmentError: the directory cannot be used.
    """

    def __init__(
        self,
        cluster: ClusterOptions,
        max_attempts: int,
        tasks: Sequence[Task],
        directory: str,
        rows: Mapping[str, Any],
    ):
        self.tasks = tasks
        self.has_chief = any(task.type == "chief" for task in tasks)
        self.counts = cluster.counts
        self._all_tasks = make_tasks(cluster.counts)
        self._numbers = [self._all_tasks.index(task) for task in tasks]
        self._cluster = cluster
        self._max_attempts = max_attempts
        self._rows = rows
        self._has_begun = False
        self.share = uuid.uuid4().hex[:12]
        self._hosts = own_addresses(cluster.network)
        self._machine = f"{socket.gethostname()} ({', '.join(self._hosts)}), process {os.getpid()}"
        self._directory = directory
        if self.has_chief:
            remove_old(cluster_directory(os.path.dirname(directory), "", ""), age_s=_ABANDONED_S)
        self._board = NoticeBoard(SharedDirectory(directory), self.share, max_attempts)
        self.first_attempt = 1 + max((note.attempt for note in self._board.notes("failed")), default=0)
        earlier = [Join.decode(value) for value in self._board.notes("join").values()]
        shared = [join.generation for join in earlier if set(join.ports) & set(self._numbers)]
        self._generation = 1 + max(shared, default=0)

    def __enter__(self) -> Meeting:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not self._has_begun:
            # The peers would wait for this share until their timeout.
            self._post_failure(self.first_attempt, error)
        self._board.close()

    @contextlib.contextmanager
    def attempt(self, number: int) -> Iterator[Peers]:
        """Meet the other shares for one attempt; in the block, the tasks run.

        Raises:
          ScriptEnvironmentError: not all tasks have come, or not all reach each other; the message says which.
          ScriptError: the error of the task that failed first, on whichever machine.
        """
        addressed = [task for task in self._numbers if self._all_tasks[task].type != "evaluator"]
        if len(self._all_tasks) == 1:
            addressed = []
        roster, self._has_begun = None, True
        try:
            with HeldPorts(len(addressed), self._cluster.port_range) as held:
                ports = {**dict.fromkeys(self._numbers), **dict(zip(addressed, held.ports))}
                roster, hosts = self._assemble(number, ports)
                yield _SharePeers(self._board, self, number, roster, hosts)
        except TFScriptError as error:
            root = self._settle(number, error, roster)
            if root is error:
                raise
            raise root from error
        except BaseException as error:
            # The bundle has failed at another stage, or the worker ends.
            self._post_failure(number, error)
            raise

    def _assemble(self, number: int, ports: Mapping[int, int | None]) -> tuple[Roster, dict[int, str]]:
        join = Join(self.share, self._generation, self._machine, time.time(), tuple(self._hosts), ports, **self._rows)
        timeout_s = self._cluster.timeout_s
        if number > self.first_attempt:
            timeout_s = min(timeout_s, REJOIN_S)
        assembly = Assembly(
            self._board, join, number, self._all_tasks,
            timeout_s=timeout_s, directory=self._directory, check=lambda: self.check(number, None),
        )  # fmt: skip
        roster, hosts = assembly.wait()
        machines = "; ".join(f"{self._describe(share)}" for share in roster.shares.values())
        _LOGGER.info("attempt %d of a cluster begins. Its tasks: %s", number, machines)
        return roster, hosts

    def _post_failure(self, attempt: int, error: BaseException) -> None:
        """Tell the peers of an error that is not a task's, and do not wait for them."""
        if not isinstance(error, TFScriptError):
            error = TaskLost(
                f"{self._names()} on {self._machine}: the bundle ended before the cluster was done "
                f"({type(error).__name__})."
            )
        with contextlib.suppress(ScriptEnvironmentError):
            self._board.post("failed", attempt, json.dumps(encode_failure(error)).encode())

    def check(self, attempt: int, roster: Roster | None) -> None:
        """Raise the error that ends the attempt for this share.

        Args:
          attempt: its number.
          roster: None while the shares meet.
        """
        self._board.check()
        for join in map(Join.decode, self._board.notes("join").values()):
            if (join.generation, join.share) > (self._generation, self.share) and set(join.ports) & set(self._numbers):
                raise Replaced(
                    f"{self._names()} on {self._machine}: the runner has begun this bundle again on {join.machine}, "
                    "and this one ends."
                )
        if self._board.notes("failed", attempt) or self._board.notes("over"):
            raise PeerFailed("a task on another machine has failed")
        for join in () if roster is None else roster.shares.values():
            if not self._board.is_alive(join.share) or self._is_replaced(join):
                raise self._describe_lost(join)

    def _is_replaced(self, join: Join) -> bool:
        others = map(Join.decode, self._board.notes("join").values())
        return any(
            (other.generation, other.share) > (join.generation, join.share) and set(other.ports) & set(join.ports)
            for other in others
        )

    def _settle(self, attempt: int, error: TFScriptError, roster: Roster | None) -> Exception:
        """Tell the peers of a failure, wait for theirs, and return the error of the task that failed first."""
        if isinstance(error, Replaced):
            return error
        own = None if isinstance(error, PeerFailed) else encode_failure(error)
        with contextlib.suppress(ScriptEnvironmentError):
            self._board.post("failed", attempt, json.dumps(own).encode())
        failures = self._gather_failures(attempt, own, roster)
        root = find_root(failures or [encode_failure(TaskLost(str(error)))])
        cause = error if root == own else decode_failure(root)
        if attempt >= self._max_attempts or not isinstance(cause, RETRYABLE):
            with contextlib.suppress(ScriptEnvironmentError):
                self._board.post("over", attempt)
        return cause

    def _gather_failures(self, attempt: int, own: dict[str, Any] | None, roster: Roster | None) -> list[dict[str, Any]]:
        """Return all failures of an attempt, when every share that lives has told its own."""
        if self._board.is_lost():
            return [] if own is None else [own]
        deadline = time.monotonic() + _SETTLE_S
        while True:
            told = {note.share: value for note, value in self._board.notes("failed", attempt).items()}
            told[self.share] = own
            silent = [join for name, join in self._shares(attempt, roster).items() if name not in told]
            waited_for = [join for join in silent if self._board.is_alive(join.share) and not self._is_replaced(join)]
            if not waited_for or time.monotonic() > deadline:
                break
            self._board.wait(notice_board.POLL_S)
        failures = [value for value in told.values() if value is not None]
        # While the shares meet, one that is gone is waited for, and is no failure.
        return failures + [encode_failure(self._describe_lost(join)) for join in silent if roster is not None]

    def _shares(self, attempt: int, roster: Roster | None) -> dict[str, Join]:
        if roster is not None:
            return roster.shares
        joins = {note: Join.decode(value) for note, value in self._board.notes("join", attempt).items()}
        return find_roster(joins, attempt, range(len(self._all_tasks))).shares

    def _describe_lost(self, join: Join) -> TaskLost:
        if self._is_replaced(join):
            end = "the runner has begun its bundle again, so its SDK worker has died, or its bundle has failed"
        else:
            end = f"its heartbeat has stopped for {notice_board.DEAD_S:g} s: the machine or its SDK worker has died"
        return TaskLost(f"{self._describe(join)} is lost: {end}.")

    def _describe(self, join: Join) -> str:
        return f"{', '.join(str(self._all_tasks[number]) for number in join.ports)} on {join.machine}"

    def _names(self) -> str:
        return ", ".join(map(str, self.tasks))


class _SharePeers(Peers):
    """The tasks of the other shares in one attempt."""

    def __init__(self, board: NoticeBoard, meeting: Meeting, attempt: int, roster: Roster, hosts: Mapping[int, str]):
        joins = roster.owners
        tasks = make_tasks(meeting.counts)
        workers = [number for number, task in enumerate(tasks) if task.type in ("chief", "worker")]
        addresses = [join_host_port(hosts[number], joins[number].ports[number] or 0) for number in sorted(hosts)]
        checksum = RowsChecksum()
        for join in roster.shares.values():
            checksum.add_sums(join.checksum)
        started = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime(joins[0].at))
        super().__init__(
            addresses=make_addresses(meeting.counts, addresses),
            dataset_lengths=[joins[number].lengths[number] for number in workers],
            checksum=str(checksum),
            files=[_readable(joins[number], number, meeting.share) for number in workers],
            name=f"{started}-{roster.number:012x}"[:27],
            all_have_ended=False,
        )
        self._board = board
        self._meeting = meeting
        self._attempt = attempt
        self._roster = roster

    def check(self) -> None:
        self._meeting.check(self._attempt, self._roster)
        chief = self._roster.owners[0].share
        if not self._meeting.has_chief:
            self.chief_has_ended = any(note.share == chief for note in self._board.notes("chief", self._attempt))
        ended = {note.share: reports for note, reports in self._board.notes("ended", self._attempt).items()}
        own = self._meeting.share
        self.all_have_ended = all(share in ended for share in self._roster.shares if share != own)
        if self.all_have_ended:
            others = [ended[share] for share in self._roster.shares if share != own]
            self.reports = [(at, values) for reports in others for at, values in reports]

    def note_chief_end(self) -> None:
        self._board.post("chief", self._attempt)

    def note_end(self, reports: Sequence[Report]) -> None:
        self._board.post("ended", self._attempt, json.dumps(list(reports)).encode())

    def finish(self) -> None:
        if self._meeting.has_chief:
            self._board.post("done", self._attempt)
            return
        chief = self._roster.owners[0].share
        while not any(note.share == chief for note in self._board.notes("done", self._attempt)):
            self.check()
            self._board.wait(notice_board.POLL_S)


def _readable(join: Join, task: int, share: str) -> dict[str, Any]:
    """Return the values of a request for a worker's rows; on another machine there are no parts to read."""
    files = dict(join.files[task])
    return files if join.share == share else {**files, "dataset_parts": None}
