"""Builds the engine named on the command line; where its tools are missing, that is told and the tests will skip it."""

from __future__ import annotations

import sys

from tests.engines import ENGINES
from tests.engines.tools import ToolMissing

try:
    ENGINES[sys.argv[1]].build()
except ToolMissing as missing:
    sys.stderr.write(f"{missing}\n")
