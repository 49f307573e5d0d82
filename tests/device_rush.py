"""A process that leases devices over and over, and ends with status 3 if any was given to too many; for tests.

python -m tests.device_rush SEED DIRECTORY: in the directory, each device has two files, for two halves. A process that
has a lease must get their locks.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import time

from beam_tfscript.worker.device_leases import DeviceLeases, Turn
from beam_tfscript.worker.device_shares import Demand

IDS = ("0", "1", "2")
DEMANDS = [(1.0,), (2.0,), (1.0, 1.0), (0.5,), (0.5, 0.5), (3.0,)]


def main() -> None:
    """Lease until the process is killed."""
    chance, directory = random.Random(int(sys.argv[1])), sys.argv[2]
    leases = DeviceLeases()
    while True:
        demand = Demand(chance.choice(DEMANDS), IDS)
        turn: Turn | None = None
        while (got := leases.lease(demand, "rush", turn)) is None:
            turn = turn or leases.queue(demand)
            time.sleep(chance.random() * 0.02)
        if turn is not None:
            turn.close()
        locks = [lock for lease in got for name in lease.ids for lock in take(directory, name, lease.share)]
        time.sleep(chance.random() * 0.02)
        for lock in locks:
            os.close(lock)
        for lease in got:
            lease.close()
        os.write(1, b".")


def take(directory: str, name: str, share: float) -> list[int]:
    """Take the locks of a device's halves: both for a whole device, one for a half."""
    taken = []
    for half in "ab":
        lock = os.open(os.path.join(directory, name + half), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken.append(lock)
        except BlockingIOError:
            os.close(lock)
        if len(taken) == (2 if share >= 1 else 1):
            return taken
    sys.exit(3)


if __name__ == "__main__":
    main()
