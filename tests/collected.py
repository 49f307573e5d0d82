"""Plugin of pytest that notes what is collected: for each test its file, its name, its engine and its feed.

TESTS=FILE pytest -p tests.collected --collect-only ...     # a line of JSON per test
"""

from __future__ import annotations

import json
import os

from tests.conftest import ONE_ENGINE, TESTED


def pytest_collection_finish(session):
    with open(os.environ["TESTS"], "w") as file:
        for item in session.items:
            values = item.callspec.params if hasattr(item, "callspec") else {}
            found = {"file": item.path.name, "name": item.originalname, "engine": _engine(item, values)}
            found.update(feed=_feed(values), placement=values.get("placement"))
            file.write(json.dumps(found) + "\n")


def _engine(item, values):
    """Return the name of the engine, as far as the test says it."""
    if item.path.name in ONE_ENGINE:
        return ONE_ENGINE[item.path.name]
    engine = values.get("engine")
    if engine is not None:
        name = engine if isinstance(engine, str) else engine.NAME.lower()
        return name if name in TESTED else None
    return "in_memory" if "in_memory" in item.fixturenames else None


def _feed(values):
    arguments = values.get("arguments")
    feed = arguments.get("feed") if isinstance(arguments, dict) else None
    return feed or values.get("feed")
