"""The way of a cluster's shares to one attempt: all join, probe each other, and choose the same addresses."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from beam_tfscript.cluster.addresses import HOST_VARIABLE
from beam_tfscript.cluster.notes import Join, Roster, find_roster
from beam_tfscript.cluster.reachability import Prober, Target
from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.feeds.notice_board import NoticeBoard
from beam_tfscript.files.uris import mask_uri

_LOGGER = logging.getLogger(__name__)

# How long peers that have joined may stay unreachable: their machines may be busy.
_REACH_S = 30.0
# Longest wait before the notes are looked at again, while probes are answered.
_STEP_S = 0.2
# Interval of log lines: a wait must not look like a hang.
_NOTICE_S = 30.0


class Assembly:
    """One share's way to one attempt.

    Args:
      board: the notes of the cluster.
      join: the share's part; its ports are held.
      attempt: number of the attempt.
      tasks: all tasks of the cluster.
      timeout_s: longest wait for tasks that are missing.
      directory: of the notes, for messages.
      check: raises an error if the attempt has failed.
    """

    def __init__(
        self,
        board: NoticeBoard,
        join: Join,
        attempt: int,
        tasks: Sequence[Task],
        *,
        timeout_s: float,
        directory: str,
        check: Callable[[], None],
    ):
        self._board = board
        self._join = join
        self._attempt = attempt
        self._tasks = tasks
        self._timeout_s = timeout_s
        self._directory = directory
        self._check = check
        self._posted: set[int] = set()

    def wait(self) -> tuple[Roster, dict[int, str]]:
        """Return the roster, and the host of each task that has an address, when all shares have the same.

        Raises:
          ScriptEnvironmentError: tasks are missing, or do not reach each other; the message says which.
        """
        ports = {port: self._join.token(self._attempt, task) for task, port in self._join.ports.items() if port}
        deadline = time.monotonic() + self._timeout_s
        notice_at = time.monotonic() + _NOTICE_S
        complete_at: dict[int, float] = {}  # roster -> when it was first complete
        with Prober(ports) as prober:
            # After the ports listen: a peer may probe them as soon as it reads this.
            self._board.post("join", self._attempt, self._join.encode(), self._join.generation)
            while True:
                self._check()
                roster = self._roster()
                lost = [join for join in roster.shares.values() if not self._board.is_alive(join.share)]
                if roster.missing or lost:
                    if time.monotonic() > deadline:
                        raise self._describe_missing(roster, lost)
                elif self._is_probed(roster, prober, complete_at.setdefault(roster.number, time.monotonic())):
                    return roster, self._choose(roster)
                if time.monotonic() > notice_at:
                    notice_at += _NOTICE_S
                    _LOGGER.info(
                        "%s waits for %s", self._join.machine, self._names(roster.missing) or "probes of its peers"
                    )
                prober.step(_STEP_S)

    def _roster(self) -> Roster:
        joins = {note: Join.decode(value) for note, value in self._board.notes("join").items()}
        return find_roster(joins, self._attempt, range(len(self._tasks)))

    def _is_probed(self, roster: Roster, prober: Prober, since: float) -> bool:
        """Probe the peers; return True if all shares have probed all of theirs."""
        targets = {
            (task, host): Target(host, port, join.token(self._attempt, task))
            for task, join in roster.owners.items()
            if join.share != self._join.share and (port := join.ports[task])
            for host in join.hosts
        }
        if roster.number not in self._posted:
            prober.probe(targets.values())
            reached: dict[int, list[str]] = {task: [] for task, _ in targets}
            for (task, host), target in targets.items():
                if target in prober.reached:
                    reached[task].append(host)
            is_done = all(map(prober.is_tried, targets.values())) and all(reached.values())
            if is_done or time.monotonic() > since + _REACH_S:
                self._board.post("reach", self._attempt, json.dumps(reached).encode(), roster.number)
                self._posted.add(roster.number)
        return self._reached(roster).keys() >= roster.shares.keys()

    def _reached(self, roster: Roster) -> dict[str, dict[int, list[str]]]:
        """Return, for each share that has probed this roster, the addresses that it reaches each task by."""
        return {
            note.share: {int(task): hosts for task, hosts in value.items()}
            for note, value in self._board.notes("reach", self._attempt).items()
            if note.number == roster.number
        }

    def _choose(self, roster: Roster) -> dict[int, str]:
        reached = self._reached(roster)
        hosts = roster.hosts(reached)
        found = {task: host for task, host in hosts.items() if host is not None}
        if len(found) == len(hosts):
            return found
        task = min(task for task, host in hosts.items() if host is None)
        owner = roster.owners[task]
        peers = [join for join in roster.shares.values() if join.share != owner.share]
        deaf = [join for join in peers if not reached[join.share].get(task)] or peers
        raise ScriptEnvironmentError(
            f"{self._tasks[task]} on {owner.machine}, port {owner.ports[task]}, cannot be reached "
            f"{'at one address by all of' if deaf == peers and len(peers) > 1 else 'by'} "
            f"{'; '.join(f'{self._names(join.ports)} on {join.machine}' for join in deaf)}. Machines of a cluster must "
            "reach each other's ports: open the firewall for the ports of cluster_ports, choose the network that they "
            f"share by cluster_network, or give each worker's address by the environment variable {HOST_VARIABLE}."
        )

    def _describe_missing(self, roster: Roster, lost: Sequence[Join]) -> ScriptEnvironmentError:
        here = ", ".join(f"{self._names(join.ports)} on {join.machine}" for join in roster.shares.values())
        gone = [task for join in lost for task in join.ports]
        text = f"the cluster is not complete after {self._timeout_s:g} s. "
        if roster.missing:
            text += (
                f"No bundle has begun for {self._names(roster.missing)}: the runner has fewer free slots than the "
                f"cluster's {len(self._tasks)} tasks, as with a parallelism that is too low, or other machines do not "
                f"see {mask_uri(self._directory)}, which must be a spool_dir on a file system that all of them share. "
            )
        if gone:
            text += f"The heartbeat of {self._names(gone)} has stopped: the machine or its SDK worker has died. "
        return ScriptEnvironmentError(
            f"{text}Present: {here}. Give the runner more slots, or a longer cluster_timeout if they come late."
        )

    def _names(self, numbers: Iterable[int]) -> str:
        return ", ".join(str(self._tasks[number]) for number in numbers)
