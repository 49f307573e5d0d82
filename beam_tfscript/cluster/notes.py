"""Notes by which the machines of a cluster find each other: their names as files, and the roster that they make up.

A *share* is the tasks of one cluster that one bundle has, on one machine. Each share posts notes as files in a
directory that all machines see. A note is written once and then never changed, so that it can be read at any time.
All shares see the same notes, and draw the same conclusions from them.

    ROUND.KIND.ATTEMPT.SHARE.NUMBER

| kind | content |
| --- | --- |
| `beat` | none: its number grows while the share lives |
| `join` | the tasks of the share, the ports of this attempt, and the addresses of the machine |
| `reach` | the addresses of the peers' tasks that this share reaches; its number is the roster's |
| `chief` | none: the chief's `main` has returned |
| `ended` | reports of the share's tasks, all of which have ended well |
| `done` | none: the chief's share has published the model, and the cluster has succeeded |
| `failed` | the error of a task, or null for a share that ended its tasks because of another share's failure |
| `over` | none: the cluster has failed for good, and a repeated bundle begins the next round |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Join", "Note", "Roster", "find_roster", "first_round"]


class Note(NamedTuple):
    """The name of a note.

    Attributes:
      round: grows when a cluster that has failed for good is begun again by repeated bundles.
      kind: see the table above.
      attempt: number of the attempt, from 1; 0 for notes that belong to no attempt.
      share: random name of the share.
      number: of a beat, of a roster, or of the share's generation.
    """

    round: int
    kind: str
    attempt: int
    share: str
    number: int = 0

    @property
    def name(self) -> str:
        """The file's name."""
        return ".".join(map(str, self))

    @classmethod
    def parse(cls, name: str) -> Note | None:
        """Return the note of a file's name; None for a file that is no note."""
        fields = name.split(".")
        if len(fields) != 5:
            return None
        try:
            return cls(int(fields[0]), fields[1], int(fields[2]), fields[3], int(fields[4]))
        except ValueError:
            return None


def first_round(notes: Iterable[Note], max_attempts: int) -> int:
    """Return the round that a new share takes part in.

    A round is over if the cluster has succeeded or failed for good. So is one that was abandoned after its last
    attempt.
    """
    notes = list(notes)
    last = max((note.round for note in notes), default=1)
    is_over = any(
        note.round == last
        and (note.kind in ("over", "done") or (note.kind == "failed" and note.attempt >= max_attempts))
        for note in notes
    )
    return last + is_over


@dataclass(frozen=True)
class Join:
    """A share's part in one attempt.

    Attributes:
      share: its name.
      generation: greater than that of all shares that had one of its tasks before.
      machine: the machine's name and addresses, for messages.
      at: when the share joined, in seconds since 1970, by its own clock.
      hosts: the machine's addresses, the preferred one first.
      ports: number of a task -> its port; None for an evaluator, which has none.
      lengths: number of a task -> its number of rows.
      checksum: of the rows of all tasks but evaluators.
      files: number of a task -> the values of a request for its rows, on this machine.
    """

    share: str
    generation: int
    machine: str
    at: float
    hosts: tuple[str, ...]
    ports: Mapping[int, int | None]
    lengths: Mapping[int, int]
    checksum: str
    files: Mapping[int, Any]

    def encode(self) -> bytes:
        """Return the content of the note."""
        return json.dumps(self.__dict__).encode()

    @classmethod
    def decode(cls, value: Mapping[str, Any]) -> Join:
        """Return the share's part, from the JSON object of the note."""
        keyed = {name: {int(key): item for key, item in value[name].items()} for name in ("ports", "lengths", "files")}
        return cls(**{**value, **keyed, "hosts": tuple(value["hosts"])})

    def token(self, attempt: int, task: int) -> str:
        """Return the answer of a task's port to a probe."""
        return f"{self.share}-{attempt}-{task}"


@dataclass(frozen=True)
class Roster:
    """The shares that hold a cluster's tasks in one attempt.

    Attributes:
      owners: number of a task -> the share that has it; only of tasks that have joined.
      missing: numbers of tasks that no share has joined with.
    """

    owners: Mapping[int, Join]
    missing: tuple[int, ...]

    @property
    def shares(self) -> dict[str, Join]:
        """The shares, by name."""
        return {join.share: join for join in self.owners.values()}

    @property
    def number(self) -> int:
        """Number that is the same for the same shares, on every machine."""
        text = " ".join(sorted(self.shares))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    def hosts(self, reached: Mapping[str, Mapping[int, list[str]]]) -> dict[int, str | None]:
        """Return the host of each task that has a port: the first of its addresses that all other shares reach.

        Args:
          reached: share -> number of a task -> the addresses that the share reaches it by.

        Returns:
          number of a task -> its host; None where no address is reached by all.
        """
        found: dict[int, str | None] = {}
        for task, join in self.owners.items():
            if join.ports[task] is not None:
                peers = [share for share in self.shares if share != join.share]
                common = (host for host in join.hosts if all(host in reached[peer].get(task, ()) for peer in peers))
                found[task] = next(common, None)
        return found


def find_roster(joins: Mapping[Note, Join], attempt: int, tasks: Iterable[int]) -> Roster:
    """Return the roster of an attempt.

    A task may have been joined by several shares, such as that of a bundle that the runner has repeated. The share of
    the highest generation has it, even if it has not joined this attempt yet: then the task is missing.
    """
    newest: dict[int, Join] = {}
    for join in joins.values():
        for task in join.ports:
            other = newest.get(task)
            if other is None or (join.generation, join.share) >= (other.generation, other.share):
                newest[task] = join
    here = {note.share: join for note, join in joins.items() if note.attempt == attempt}
    owners = {task: here[newest[task].share] for task in tasks if task in newest and newest[task].share in here}
    return Roster(owners, tuple(task for task in tasks if task not in owners))
