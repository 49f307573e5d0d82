"""Reserved ports of a cluster, which TensorFlow's server can bind and other processes cannot."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import struct
import subprocess

import pytest

from beam_tfscript.cluster.ports import HeldPorts, bypass_proxy, listen
from beam_tfscript.errors import ScriptEnvironmentError
from tests.checks import PYTHONS
from tests.running import script
from tests.without_tensorflow import LEAN

_TIMEOUT_S = 120
# Linux 6.3: the range that a socket's own port is chosen from; not yet in Python's socket module.
_IP_LOCAL_PORT_RANGE = 51


def run_two_servers(python: str, addresses: list[str], environ: dict[str, str]) -> dict:
    """Return the output of task 0 after a computation on task 1."""
    command = [python, script("cluster_server.py"), ",".join(addresses)]
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": LEAN, **environ}
    serving = subprocess.Popen([*command, "1"], env=environ, stderr=subprocess.DEVNULL)
    try:
        asking = subprocess.run([*command, "0"], env=environ, capture_output=True, text=True, timeout=_TIMEOUT_S)
    finally:
        serving.kill()
        serving.wait()
    assert asking.returncode == 0, asking.stderr[-4000:]
    return json.loads(asking.stdout)


@pytest.mark.trainings
@pytest.mark.parametrize("python", PYTHONS)
def test_tensorflow_binds_a_held_port_on_all_interfaces(python: str):
    with HeldPorts(2) as held:
        told = run_two_servers(python, held.addresses, {})
    assert told["total"] == 7
    # What the docs say of who can reach the port; good news where this fails.
    assert told["listens"] == [["0" * 32, held.ports[0]]]


@pytest.mark.trainings
@pytest.mark.parametrize("python", PYTHONS)
def test_a_proxy_is_not_asked_for_tasks_of_this_machine(python: str):
    proxied = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
    with HeldPorts(2) as held:
        assert run_two_servers(python, held.addresses, {**proxied, **bypass_proxy(proxied)})["total"] == 7


def test_what_is_excepted_from_the_proxy_stays_so():
    assert bypass_proxy({}) == {"no_proxy": "localhost,127.0.0.1,::1"}
    assert bypass_proxy({}, ["10.0.0.1", "localhost"]) == {"no_proxy": "localhost,127.0.0.1,::1,10.0.0.1"}
    assert bypass_proxy({"NO_PROXY": "a"}) == {"no_proxy": "a,localhost,127.0.0.1,::1"}
    assert bypass_proxy({"no_proxy": "a", "NO_PROXY": "b", "no_grpc_proxy": "c"}) == {
        "no_proxy": "a,localhost,127.0.0.1,::1",
        "no_grpc_proxy": "c,localhost,127.0.0.1,::1",
    }


def only(port: int, family: socket.AddressFamily) -> socket.socket:
    """A socket whose own port, where it asks for any, can be this one only."""
    wanting = socket.socket(family)
    wanting.setsockopt(socket.IPPROTO_IP, _IP_LOCAL_PORT_RANGE, struct.pack("I", port | port << 16))
    wanting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return wanting


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_nobody_is_given_a_held_port(family, address):
    with HeldPorts(1) as held, only(held.ports[0], family) as listener, only(held.ports[0], family) as client:
        with pytest.raises(OSError) as refused:
            listener.bind((address, 0))
        assert refused.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError) as refused:
            client.connect((address, held.ports[0]))
        assert refused.value.errno == errno.EADDRNOTAVAIL
    # With nobody holding it, the same client is given the port, and even meets itself there.
    with only(held.ports[0], family) as client:
        client.connect((address, held.ports[0]))
        assert client.getsockname() == client.getpeername()


def test_a_server_that_wants_a_held_port_for_itself_is_refused():
    with HeldPorts(1) as held, socket.socket() as other:
        with pytest.raises(OSError) as refused:
            other.bind(("", held.ports[0]))
        assert refused.value.errno == errno.EADDRINUSE


def test_a_task_that_is_not_up_yet_refuses_connections():
    with HeldPorts(1) as held, socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", held.ports[0]))


def test_ports_are_given_up_at_the_end_and_can_be_had_again():
    with HeldPorts(3) as held:
        assert len(set(held.ports)) == 3 and "held>" in repr(held)
        assert held.addresses == [f"localhost:{port}" for port in held.ports]
    assert "given up" in repr(held)
    for port in held.ports:
        with socket.socket() as other:
            other.bind(("", port))


def test_says_how_many_ports_there_were_and_keeps_none():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        with pytest.raises(ScriptEnvironmentError, match="of the 500 ports .*ulimit -n"):
            HeldPorts(500)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == used


def test_ports_of_a_range_are_each_held_by_one():
    with HeldPorts(2, (31100, 31103)) as first, HeldPorts(2, (31100, 31103)) as second:
        assert sorted(first.ports + second.ports) == [31100, 31101, 31102, 31103]
        with pytest.raises(ScriptEnvironmentError, match="only 0 of the 1 ports .*cluster_ports=31100-31103"):
            HeldPorts(1, (31100, 31103))


def test_held_port_can_be_listened_on_for_a_while():
    with HeldPorts(1) as held:
        for _ in range(2):
            with listen(held.ports[0]), socket.create_connection(("127.0.0.1", held.ports[0]), timeout=10):
                pass
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", held.ports[0]))
