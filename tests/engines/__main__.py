"""Builds the engine named on the command line; where its tools are missing, that is told and the tests will skip it."""

from __future__ import annotations

import sys

from tests.engines import ENGINES, flink_with_kafka
from tests.engines.tools import ToolMissing
from tests.servers import kafka

# Jars that tests of an engine need too: several workers of pytest must not resolve them at once.
_BESIDE = {"flink": (flink_with_kafka, kafka)}

try:
    for module in (ENGINES[sys.argv[1]], *_BESIDE.get(sys.argv[1], ())):
        module.build()
except ToolMissing as missing:
    sys.stderr.write(f"{missing}\n")
