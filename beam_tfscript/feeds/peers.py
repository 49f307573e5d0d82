"""The other tasks of a cluster, as the tasks on this machine see them; here, for a cluster on one machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from beam_tfscript.cluster.counts import Counts
from beam_tfscript.cluster.ports import HeldPorts
from beam_tfscript.cluster.tf_config import Addresses, Task, make_addresses, make_tasks, num_addresses

# A report of a training: when it came, in seconds since 1970, and its values.
Report = tuple[float, dict[str, float]]


@dataclass
class Peers:
    """The tasks on other machines in one attempt, and facts about the whole cluster; this class is of none.

    Attributes:
      addresses: of all tasks: `config.cluster`.
      dataset_lengths: number of rows of each worker, the chief first.
      checksum: of the rows of all workers.
      files: values of a request for the rows of each worker, the chief first.
      name: of the attempt, the same on all machines; None on one machine.
      chief_has_ended: True if the chief is on another machine, and its `main` has returned.
      all_have_ended: True if all tasks on other machines but parameter servers have ended well.
      reports: of the tasks on other machines; complete when all have ended.
    """

    addresses: Addresses
    dataset_lengths: Sequence[int]
    checksum: str
    files: Sequence[Mapping[str, Any]]
    name: str | None = None
    chief_has_ended: bool = False
    all_have_ended: bool = True
    reports: list[Report] = field(default_factory=list)

    def check(self) -> None:
        """Take in the state of the tasks on other machines; raise an error if one of them has failed."""

    def note_chief_end(self) -> None:
        """Tell the other machines that the chief's `main` has returned."""

    def note_end(self, reports: Sequence[Report]) -> None:
        """Tell the other machines that all tasks here have ended, but parameter servers."""

    def finish(self) -> None:
        """Return when the cluster has succeeded; on the chief's machine, tell the others that it has."""


class Layout(Protocol):
    """The tasks on this machine, and the way in which they find those on others.

    Attributes:
      tasks: the tasks on this machine.
      first_attempt: number of the first attempt that they take part in.
      has_chief: True if the chief is one of them: its machine publishes the model and counts the runs.
    """

    tasks: Sequence[Task]
    first_attempt: int
    has_chief: bool

    def attempt(self, number: int) -> contextlib.AbstractContextManager[Peers]:
        """Return a context in which all tasks of one attempt have addresses."""


class OneHost:
    """All tasks of a cluster on this machine; the attributes are those of `Layout`.

    Args:
      counts: the size of the cluster.
      port_range: (first, last) port that may be used; None for any.
      rows: the facts about the rows: `dataset_lengths`, `checksum` and `files` of `Peers`.
    """

    first_attempt = 1
    has_chief = True

    def __init__(self, counts: Counts, port_range: tuple[int, int] | None, **rows: Any):
        self.tasks: Sequence[Task] = make_tasks(counts)
        self._counts = counts
        self._port_range = port_range
        self._rows = rows

    @contextlib.contextmanager
    def attempt(self, number: int) -> Iterator[Peers]:
        """Reserve ports for one attempt."""
        with HeldPorts(num_addresses(self._counts), self._port_range) as ports:
            yield Peers(make_addresses(self._counts, ports.addresses), **self._rows)
