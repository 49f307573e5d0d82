"""Shares of a cluster that meet by notes in a directory: each is a process, as on a machine of its own."""

from __future__ import annotations

import json
import os
import pathlib
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from beam_tfscript.cluster.addresses import HOST_VARIABLE, join_host_port, own_addresses
from beam_tfscript.cluster.notes import Join, Note, find_roster, first_round
from beam_tfscript.cluster.ports import HeldPorts
from beam_tfscript.cluster.reachability import Prober, Target
from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.feeds import meeting, notice_board
from beam_tfscript.files.old_directories import remove_old
from beam_tfscript.files.shared_directory import SharedDirectory
from tests.meeting_share import make_meeting, run_share
from tests.memory_file_system import MEMORY

ROOT = pathlib.Path(__file__).parent.parent
LONG_S = 60.0


class Machine:
    """A share in a process of its own, which can be killed and stopped."""

    def __init__(self, directory, tasks, environment=None, prefix=(), **options):
        command = [*prefix, sys.executable, "-m", "tests.meeting_share", str(directory), tasks, json.dumps(options)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, text=True
        )

    def next(self):
        """Wait for the next event."""
        line = self.process.stdout.readline()
        assert line, "the share has ended without a word"
        return json.loads(line)

    def last(self):
        """Wait for the end; return the last event."""
        # Not `communicate`, which does not see the lines that `next` has buffered.
        limit = threading.Timer(LONG_S, self.process.kill)
        limit.start()
        said = self.process.stdout.read()
        limit.cancel()
        assert self.process.wait(LONG_S) == 0, "the share was killed"
        return json.loads(said.splitlines()[-1])

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Share:
    """A share in a thread of this process."""

    def __init__(self, directory, tasks, **options):
        self._events = queue.Queue()
        self._thread = threading.Thread(
            target=run_share, args=(str(directory), tasks, lambda **event: self._events.put(event)), kwargs=options
        )
        self._thread.start()

    def next(self):
        """Wait for the next event."""
        return self._events.get(timeout=LONG_S)

    def last(self):
        """Wait for the end; return the last event."""
        while (event := self.next())["event"] not in ("ended", "failed"):
            pass
        self.close()
        return event

    def close(self):
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start shares of one cluster; all of them end."""
    monkeypatch.setattr(notice_board, "POLL_S", 0.1)
    monkeypatch.setattr(notice_board, "BEAT_S", 0.3)
    shares = []

    def begin(tasks, kind=Share, **options):
        shares.append(kind(options.pop("directory", tmp_path / "cluster"), tasks, **options))
        return shares[-1]

    yield begin
    for share in shares:
        share.close()


def test_shares_find_each_other_and_end_together(start, tmp_path):
    shares = [start("0"), start("1"), start("2")]
    assembled = [share.next() for share in shares]
    (cluster,) = {json.dumps(event["cluster"]) for event in assembled}
    addresses = json.loads(cluster)
    assert {role: len(found) for role, found in addresses.items()} == {"chief": 1, "worker": 1, "ps": 1}
    assert all(event["lengths"] == [10, 11] for event in assembled)
    assert {address.rpartition(":")[0] for found in addresses.values() for address in found} <= set(own_addresses())
    assert [share.last()["event"] for share in shares] == ["ended"] * 3
    assert not (tmp_path / "cluster").exists()


def test_missing_task_is_named_with_the_likely_cause(start, tmp_path):
    shares = [start("0", timeout_s=2.0), start("2", timeout_s=30.0)]
    for share in shares:
        failed = share.last()
        assert failed["kind"] == "ScriptEnvironmentError"
        text = failed["text"]
        assert "not complete after 2 s" in text and "No bundle has begun for worker:0" in text
        assert "fewer free slots than the cluster's 3 tasks" in text and f"do not see {tmp_path}/cluster" in text
        assert f"chief:0 on {socket.gethostname()}" in text and "Give the runner more slots" in text
    assert not (tmp_path / "cluster").exists()


def test_first_failure_is_the_error_of_all_and_the_next_attempt_succeeds(start):
    options = {"max_attempts": 2, "waits_s": 2.0}
    died = {"fails": {"1": ["died", "worker:0 was killed"]}, **options}
    raised = {"fails": {"1": ["raised", "chief:0 has lost its peer"]}, **options}
    shares = [start("0", **raised), start("1", **died), start("2", **options)]
    for share in shares:
        assert [share.next()["attempt"], share.next()["attempt"]] == [1, 2]
        assert share.next()["event"] == "ended"


def test_last_attempt_fails_everywhere_with_the_root_cause(start, tmp_path):
    shares = [
        start("0", waits_s=2.0, fails={"1": ["raised", "chief:0 has lost its peer"]}),
        start("1", waits_s=2.0, fails={"1": ["died", "worker:0 was killed"]}),
        start("2", waits_s=60.0),
    ]
    for share in shares:
        assert share.next()["event"] == "assembled"
        assert share.last() == {"event": "failed", "kind": "ScriptDied", "text": "worker:0 was killed"}
    assert not (tmp_path / "cluster").exists()


def test_share_that_stops_working_is_noticed_by_its_heartbeat(start, monkeypatch):
    monkeypatch.setattr(notice_board, "DEAD_S", 1.5)
    shares = [start("0", waits_s=60.0), start("1", waits_s=60.0), start("2", Machine, waits_s=60.0)]
    for share in shares:
        assert share.next()["event"] == "assembled"
    os.kill(shares[2].process.pid, signal.SIGKILL)
    for share in shares[:2]:
        failed = share.last()
        assert failed["kind"] == "TaskLost" and failed["text"].startswith("ps:0 on ")
        assert "its heartbeat has stopped for 1.5 s" in failed["text"]


def test_bundle_that_is_repeated_joins_the_next_attempt(start, monkeypatch):
    monkeypatch.setattr(notice_board, "DEAD_S", 1.5)
    shares = [start("0", waits_s=5.0, max_attempts=2), start("1,2", Machine, waits_s=60.0, max_attempts=2)]
    for share in shares:
        assert share.next()["attempt"] == 1
    os.kill(shares[1].process.pid, signal.SIGKILL)
    repeated = start("1,2", max_attempts=2)
    assert repeated.next()["attempt"] == shares[0].next()["attempt"] == 2
    assert repeated.last()["event"] == "ended" and shares[0].last()["event"] == "ended"


def test_share_that_was_replaced_ends_and_fails_nobody_but_its_attempt(start):
    options = {"max_attempts": 2, "waits_s": 3.0}
    shares = [start("0", **options), start("1,2", max_attempts=2, waits_s=60.0)]
    for share in shares:
        assert share.next()["attempt"] == 1
    newest = start("1,2", **options)
    replaced = shares[1].last()
    assert replaced["kind"] == "Replaced" and "the runner has begun this bundle again" in replaced["text"]
    assert shares[0].next()["attempt"] == newest.next()["attempt"] == 2
    assert newest.last()["event"] == shares[0].last()["event"] == "ended"


def test_bundles_that_are_repeated_after_the_end_begin_a_new_round(start, tmp_path, monkeypatch):
    monkeypatch.setattr(meeting, "_SETTLE_S", 3.0)
    # The zombie keeps the directory: it was stopped before it could see the failure.
    zombie = start("2", Machine, waits_s=60.0)
    first = [start("0", waits_s=2.0, fails={"1": ["died", "once"]}), start("1", waits_s=60.0)]
    for share in (zombie, *first):
        assert share.next()["event"] == "assembled"
    os.kill(zombie.process.pid, signal.SIGSTOP)
    for share in first:
        assert share.last()["text"] == "once"
    second = [start("0"), start("1"), start("2")]
    assert [share.last()["event"] for share in second] == ["ended"] * 3
    os.kill(zombie.process.pid, signal.SIGCONT)
    assert zombie.last()["kind"] in ("ScriptDied", "Replaced")
    assert not (tmp_path / "cluster").exists()


def test_directory_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScriptEnvironmentError, match=r"tasks of a cluster cannot meet in .*/file/notes.*spool_dir"):
        make_meeting(str(tmp_path / "file" / "notes"), [0])


def test_answer_of_another_machine_is_not_taken_for_the_task():
    with HeldPorts(2) as held, Prober({held.ports[0]: "the task", held.ports[1]: "another"}) as prober:
        good, other = Target("127.0.0.1", held.ports[0], "the task"), Target("127.0.0.1", held.ports[1], "the task")
        closed = Target("127.0.0.1", 1, "the task")
        prober.probe([good, other, closed])
        deadline = time.monotonic() + LONG_S
        while not all(map(prober.is_tried, (good, other, closed))):
            assert time.monotonic() < deadline
            prober.step(0.1)
        assert prober.reached == {good}


def test_given_address_is_the_only_one(monkeypatch):
    monkeypatch.setenv(HOST_VARIABLE, "worker-1.example")
    assert own_addresses("10.0.0.0/8") == ["worker-1.example"]
    assert join_host_port("fd00::1", 80) == "[fd00::1]:80" and join_host_port("10.0.0.1", 80) == "10.0.0.1:80"


def test_network_without_an_address_here_is_an_error_that_lists_those_there_are():
    with pytest.raises(ScriptEnvironmentError, match=r"no address in cluster_network='203\.0\.113\.0/24'; it has "):
        own_addresses("203.0.113.0/24")


def join_of(share, generation, *tasks):
    return Join(share, generation, "here", 0.0, ("a", "b"), dict.fromkeys(tasks, 1), {}, "", {})


def test_newest_share_has_a_task_even_before_it_has_joined_the_attempt():
    old, new = join_of("old", 1, 0, 1), join_of("new", 2, 1)
    roster = find_roster({Note(1, "join", 1, "old"): old, Note(1, "join", 2, "new"): new}, 1, range(3))
    assert roster.owners == {0: old} and roster.missing == (1, 2)


def test_host_is_the_first_that_all_peers_reach():
    joins = {Note(1, "join", 1, name): join_of(name, 1, task) for task, name in enumerate("xyz")}
    roster = find_roster(joins, 1, range(3))
    reached = {"x": {1: ["a", "b"], 2: ["b"]}, "y": {0: ["b", "a"], 2: ["a", "b"]}, "z": {0: ["a"], 1: []}}
    assert roster.hosts(reached) == {0: "a", 1: None, 2: "b"}


@pytest.mark.parametrize(
    ("names", "number"),
    [
        ([], 1), (["1.beat.0.a.3"], 1), (["1.beat.0.a.3", "2.over.1.a.0"], 3), (["1.done.2.a.0"], 2),
        (["1.failed.2.a.0"], 1), (["1.failed.3.a.0"], 2),
    ],
)  # fmt: skip
def test_round_after_the_end_of_one_is_the_next(names, number):
    assert first_round([Note.parse(name) for name in names], max_attempts=3) == number


def test_files_of_killed_jobs_are_removed_when_they_are_old(tmp_path):
    for name in ("cluster-old", "cluster-new", "other"):
        SharedDirectory(str(tmp_path / name)).write("note", b"0")
    for name in ("cluster-old", "other"):
        os.utime(tmp_path / name / "note", (1, time.time() - 1000))
    remove_old(str(tmp_path / "cluster-"), age_s=500)
    assert sorted(os.listdir(tmp_path)) == ["cluster-new", "other"]


def test_directory_that_goes_away_ends_the_share(start, tmp_path, monkeypatch):
    monkeypatch.setattr(notice_board, "DEAD_S", 1.5)
    # A file in place of the directory: it can be neither listed nor written any more, whatever the user's rights.
    share = start("0,1,2", waits_s=60.0)
    assert share.next()["event"] == "assembled"
    directory = tmp_path / "cluster"
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=True)
    directory.write_text("")
    failed = share.last()
    assert failed["kind"] == "ScriptEnvironmentError" and f"cannot meet in {directory}" in failed["text"]


@pytest.mark.parametrize("scheme", ["memdirs", "memkeys"])
def test_shares_meet_on_any_of_beams_file_systems(start, scheme):
    directory = f"{scheme}://bucket/cluster"
    shares = [start(tasks, directory=directory) for tasks in ("0", "1,2")]
    for share in shares:
        assert share.next()["event"] == "assembled" and share.last()["event"] == "ended"
    assert not MEMORY.files


def test_share_that_fails_before_it_has_begun_keeps_nobody_waiting(start, tmp_path):
    peer, directory = start("0,1", timeout_s=600.0), tmp_path / "cluster"
    deadline = time.monotonic() + LONG_S
    while not list(directory.glob("*.join.*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(ScriptEnvironmentError, match="the disk is full"), make_meeting(str(directory), [2]):
        raise ScriptEnvironmentError("the disk is full")
    assert peer.last() == {"event": "failed", "kind": "ScriptEnvironmentError", "text": "the disk is full"}
