"""Choice between the interfaces of the service: the Storage API, or the tunnel where a project has no Storage API.

In come a connection, a table and the user's choice. Out go sessions on the interface that answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from beam_tfscript.errors import ArgumentError
from beam_tfscript.runtime.maxcompute import TableAddress
from beam_tfscript.tables import storage_api, tunnel
from beam_tfscript.tables.client import is_refused
from beam_tfscript.tables.sessions import Sessions

__all__ = ["APIS", "check_api", "first_that_answers", "open_sessions"]

APIS = ("auto", storage_api.NAME, tunnel.NAME)

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


def check_api(api: str) -> None:
    """Raise ArgumentError if `api` is not a key of `APIS`."""
    if api not in APIS:
        raise ArgumentError(f"api must be one of {', '.join(map(repr, APIS))}, got {api!r}.")


def open_sessions(odps: Any, address: TableAddress, api: str, columns: Sequence[str] = ()) -> Sessions:
    """Return the sessions of a table over one interface.

    Args:
      odps: the connection.
      address: the table.
      api: `storage` or `tunnel`.
      columns: names of the columns that are read.
    """
    found = odps.get_table(address.table, project=address.project, schema=address.schema)
    if api == tunnel.NAME:
        return tunnel.TunnelSessions(odps, found, columns)
    return storage_api.StorageSessions(odps, found)


def first_that_answers(
    odps: Any, address: TableAddress, api: str, columns: Sequence[str], use: Callable[[Sessions], T]
) -> T:
    """Return the result of `use` with the sessions of the chosen interface; for "auto", of the first that answers."""
    apis = [api] if api != APIS[0] else list(APIS[1:])
    for name in apis:
        sessions = open_sessions(odps, address, name, columns)
        try:
            return use(sessions)
        except Exception as error:
            if name == apis[-1] or not is_refused(error):
                raise
            _LOGGER.warning(
                "The table %s: the Storage API is not there for this account (%s); the tunnel is used instead.",
                address,
                type(error).__name__,
            )
        finally:
            sessions.close()
    raise AssertionError("an interface answers or raises")
