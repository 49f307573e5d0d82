"""Shares of a cluster on machines with several addresses, of which the peers do not reach all."""

from __future__ import annotations

import pytest

from beam_tfscript.cluster.addresses import HOST_VARIABLE
from tests.engines.machines import machines
from tests.engines.tools import ToolMissing
from tests.test_cluster_meeting import Machine

# The same on both machines, as that of a container bridge. Its interface comes first, so it is the first candidate.
BRIDGE = "10.99.0.1"


@pytest.fixture
def start(tmp_path):
    """Start the chief and the server on one machine, and the worker on another."""
    shares = []

    def begin(environments=({}, {}), **options):
        for machine, tasks, environment in zip(made, ("0,2", "1"), environments):
            shares.append(
                Machine(tmp_path / "cluster", tasks, environment=environment, prefix=machine.prefix, **options)
            )
        return shares

    try:
        with machines(2, tmp_path / "machines", name="btfn", network="10.78.0") as made:
            for machine in made:
                machine.add_address(f"{BRIDGE}/32", "lo")
            yield begin
            for share in shares:
                share.close()
    except ToolMissing as missing:
        pytest.skip(str(missing))


def hosts_of(event):
    return {role: [address.rpartition(":")[0] for address in addresses] for role, addresses in event["cluster"].items()}


def test_address_that_all_peers_reach_is_chosen(start):
    for share in start(port_range=[31000, 31009]):
        assembled = share.next()
        assert hosts_of(assembled) == {"chief": ["10.78.0.11"], "worker": ["10.78.0.12"], "ps": ["10.78.0.11"]}
        ports = [int(address.rpartition(":")[2]) for found in assembled["cluster"].values() for address in found]
        assert all(31000 <= port <= 31009 for port in ports)
        assert share.last()["event"] == "ended"


def test_addresses_that_are_given_are_used(start):
    for share in start(environments=[{HOST_VARIABLE: "10.78.0.11"}, {HOST_VARIABLE: "10.78.0.12"}]):
        assert hosts_of(share.next())["worker"] == ["10.78.0.12"]
        assert share.last()["event"] == "ended"


def test_peer_that_is_not_reached_is_named_with_what_to_do(start):
    for share in start(network="10.99.0.0/16", reach_s=4.0):
        failed = share.last()
        assert failed["kind"] == "ScriptEnvironmentError", failed
        assert "chief:0 on " in failed["text"] and f"({BRIDGE})" in failed["text"]
        assert "cannot be reached by worker:0 on " in failed["text"] and "cluster_network" in failed["text"]
        assert "open the firewall for the ports of cluster_ports" in failed["text"] and HOST_VARIABLE in failed["text"]
