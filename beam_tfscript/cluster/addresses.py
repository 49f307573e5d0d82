"""Addresses by which other machines may reach this one: of its network interfaces, or the one that is given.

A machine may have several addresses, such as those of a second network or of a container bridge. Which of them another
machine reaches is found by trying them (`reachability.py`).
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator

from beam_tfscript.errors import ScriptEnvironmentError

__all__ = ["HOST_VARIABLE", "join_host_port", "own_addresses"]

# Environment variable of a worker: the address or the name by which the other workers reach it.
HOST_VARIABLE = "BEAM_TFSCRIPT_HOST"
# For clusters whose tasks are all on this machine, if it has no network. Another machine that tries this address
# reaches itself, and notices.
_LOOPBACK = "127.0.0.1"


def own_addresses(network: str | None = None) -> list[str]:
    """Return the addresses of this machine, the preferred ones first.

    The environment variable BEAM_TFSCRIPT_HOST is the only one if it is set. Else these are the addresses of the
    machine's interfaces, IPv4 before IPv6, and the loopback address as the last one.

    Args:
      network: a network such as `"10.0.0.0/8"`, to which the addresses must belong; None for any.

    Raises:
      ScriptEnvironmentError: the machine has no address in the network.
    """
    given = os.environ.get(HOST_VARIABLE, "").strip()
    if given:
        return [given]
    found = sorted(_interface_addresses(), key=lambda address: address.version)
    if network is None:
        return [*map(str, found), _LOOPBACK]
    inside = [str(address) for address in found if address in ipaddress.ip_network(network)]
    if not inside:
        raise ScriptEnvironmentError(
            f"this machine ({socket.gethostname()}) has no address in cluster_network={network!r}; it has "
            f"{', '.join(map(str, found)) or 'none'}. Give a network that all machines have an address in, or set the "
            f"environment variable {HOST_VARIABLE} of each worker."
        )
    return inside


def join_host_port(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _interface_addresses() -> list[_Address]:
    """Return all addresses but loopback and link-local ones, each once, in the order of the interfaces."""
    found = list(_listed_addresses() if sys.platform == "linux" else [])
    if not found:
        found = list(_routed_addresses())
    usable = [address for address in found if not (address.is_loopback or address.is_link_local)]
    return list(dict.fromkeys(usable))


class _Interface(ctypes.Structure):
    """Entry of the list that `getifaddrs` makes: https://man7.org/linux/man-pages/man3/getifaddrs.3.html."""


_Interface._fields_ = [
    ("next", ctypes.POINTER(_Interface)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
    ("other", ctypes.c_void_p),
    ("data", ctypes.c_void_p),
]


def _listed_addresses() -> Iterator[_Address]:
    """Yield the addresses of all interfaces that are up, by the C library."""
    library = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_Interface)()
    if library.getifaddrs(ctypes.byref(first)):
        return
    try:
        entry = first
        while entry:
            interface = entry.contents
            if interface.address and interface.flags & 1:  # IFF_UP
                yield from _address_at(interface.address)
            entry = interface.next
    finally:
        library.freeifaddrs(first)


def _address_at(pointer: int) -> Iterator[_Address]:
    """Yield the address of a `sockaddr`, if it is one of the internet."""
    family = int.from_bytes(ctypes.string_at(pointer, 2), sys.byteorder)
    if family == socket.AF_INET:  # family, port, address
        yield ipaddress.IPv4Address(ctypes.string_at(pointer + 4, 4))
    elif family == socket.AF_INET6:  # family, port, flow, address
        yield ipaddress.IPv6Address(ctypes.string_at(pointer + 8, 16))


def _routed_addresses() -> Iterator[_Address]:
    """Yield the source address of packets to other networks; connecting a UDP socket sends none."""
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            yield ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])
