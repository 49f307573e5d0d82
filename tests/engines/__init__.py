"""Engines that are not Python: what builds each, and the command that starts its job server.

In come the tools that a machine has (go; java and Maven), out comes a job server on a free port for as long as a test
session uses it (`server.started`). An engine is a module with the names

    NAME          what it is called in messages
    build()       makes or finds what it needs under build/; raises tools.ToolMissing
    command(dir)  the command of its job server, which may write to `dir`
    ANNOUNCEMENT  what its log says before the address that it listens on
    OPTIONS       pipeline options beside the address
"""

from __future__ import annotations

from tests.engines import flink, prism, spark

ENGINES = {"prism": prism, "flink": flink, "spark": spark}
