"""One share of a cluster in a process of its own, as on a machine of its own, without TensorFlow.

    python -m tests.meeting_share DIRECTORY TASKS [OPTIONS]     # TASKS: numbers, as in 0,2; OPTIONS: a JSON object

It prints a JSON object per line: `assembled` with the addresses, and `ended` or `failed` at its end.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from beam_tfscript.cluster.counts import Counts
from beam_tfscript.cluster.tf_config import make_tasks
from beam_tfscript.data.checksum import RowsChecksum
from beam_tfscript.errors import ScriptDied, ScriptError, ScriptRaised, TFScriptError
from beam_tfscript.feeds import assembly, notice_board
from beam_tfscript.feeds.meeting import Meeting
from beam_tfscript.feeds.retries import Failures, Retries
from beam_tfscript.options.cluster_options import ClusterOptions

COUNTS = Counts(2, 1, 0)


def make_meeting(
    directory: str,
    numbers: list[int],
    *,
    counts: Counts = COUNTS,
    max_attempts: int = 1,
    timeout_s: float = 30.0,
    network: str | None = None,
    port_range: tuple[int, int] | None = None,
) -> Meeting:
    """Return a share of a cluster with these tasks."""
    cluster = ClusterOptions(counts, None, False, 60.0, True, timeout_s, network, port_range)
    rows = {
        "lengths": {number: 10 + number for number in numbers},
        "checksum": str(RowsChecksum()),
        "files": {number: {"dataset_file": f"/rows/{number}"} for number in numbers},
    }
    tasks = [make_tasks(counts)[number] for number in numbers]
    return Meeting(cluster, max_attempts, tasks, directory, rows)


def take_part(meeting: Meeting, *, fails: dict[str, list[str]], waits_s: float, say: Any) -> None:
    """Go through attempts until one succeeds, or the cluster fails for good."""
    retries = Retries(meeting._max_attempts, Failures(meeting.first_attempt - 1), is_counted=False)
    while True:
        try:
            with meeting.attempt(retries.attempt) as peers:
                say(event="assembled", attempt=retries.attempt, cluster=peers.addresses, lengths=peers.dataset_lengths)
                work(peers, meeting, fails.get(str(retries.attempt)), waits_s)
                peers.finish()
            return
        except ScriptError as error:
            retries.fail(error, "again")


def work(peers: Any, meeting: Meeting, failure: list[str] | None, waits_s: float) -> None:
    """Fail, or work for a time, and then wait for the peers."""
    until = time.monotonic() + waits_s
    while time.monotonic() < until:
        peers.check()
        time.sleep(0.1)
    if failure is not None:
        kind, text = failure
        raise {"died": ScriptDied, "raised": ScriptRaised}[kind](text)
    if meeting.has_chief:
        peers.note_chief_end()
    peers.note_end([(time.time(), {"task": float(meeting._numbers[0])})])
    while not peers.all_have_ended:
        peers.check()
        time.sleep(0.1)


def say(**values: Any) -> None:
    """Print one event."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main(directory: str, tasks: str, options: str = "{}") -> None:
    """Take part as one share."""
    notice_board.POLL_S, notice_board.BEAT_S = 0.1, 0.3
    given = json.loads(options)
    notice_board.DEAD_S = given.pop("dead_s", notice_board.DEAD_S)
    assembly._REACH_S = given.pop("reach_s", assembly._REACH_S)
    run_share(directory, tasks, say, **given)


def run_share(directory: str, tasks: str, say: Any, *, fails: Any = None, waits_s: float = 0.0, **options: Any) -> None:
    """Take part as one share, and say what happens."""
    try:
        with make_meeting(directory, list(map(int, tasks.split(","))), **options) as meeting:
            take_part(meeting, fails=fails or {}, waits_s=waits_s, say=say)
        say(event="ended")
    except TFScriptError as error:
        say(event="failed", kind=type(error).__name__, text=str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
