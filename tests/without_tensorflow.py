"""Script processes that find no TensorFlow: they start in a tenth of a second, and feeds do not need it."""

from __future__ import annotations

import pathlib

import apache_beam as beam
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from beam_tfscript import RunTFScript
from tests.running import script

# Directory with a package `tensorflow` that cannot be imported.
BLOCKED = str(pathlib.Path(__file__).parent / "blocked")
# Directory that hides what Keras imports and can do without: a fourth of the time of TensorFlow's import.
LEAN = str(pathlib.Path(__file__).parent / "lean")
SCHEMA = "id string, batch int, rows int, pid bigint, window string, attempt int"


def blocked(directory: pathlib.Path, sitecustomize: str = "") -> dict[str, str]:
    """The environment of script processes whose import of TensorFlow fails.

    Args:
      directory: where the module is made that fails.
      sitecustomize: what an interpreter does before anything else.
    """
    package = directory / "blocked" / "tensorflow"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("raise ImportError('not here')\n")
    (directory / "blocked" / "sitecustomize.py").write_text(sitecustomize)
    return {"PYTHONPATH": str(directory / "blocked")}


def ids(n: int, *, start: int = 0) -> list[dict]:
    """`n` rows with ids from `start` on."""
    return [{"id": str(i)} for i in range(start, start + n)]


def run_of(entry: str, feed: str, *, params: dict | None = None, **arguments) -> RunTFScript:
    """The transform with an entry of the feeds' script."""
    arguments.setdefault("output_schema", SCHEMA)
    arguments.setdefault("input_schema", "id string")
    return RunTFScript(script("feeds.py"), entry=entry, feed=feed, user_params=params or {}, **arguments)


class InBundles(beam.PTransform):
    """A transform over rows that come in several bundles; each row's timestamp is its number.

    Args:
      transform: what to run.
      bundles: the rows of each bundle.
      before: applied to each row first.
    """

    def __init__(self, transform, bundles, *, before=lambda row: row, window=None):
        super().__init__()
        self._transform = transform
        self._bundles = bundles
        self._before = before
        self._window = window

    def expand(self, pipeline):
        stream = TestStream().advance_watermark_to(0)
        for rows in self._bundles:
            stream = stream.add_elements([TimestampedValue(row, int(row["id"])) for row in rows])
        rows = pipeline | stream.advance_watermark_to_infinity() | beam.Map(self._before)
        if self._window is not None:
            rows = rows | beam.WindowInto(self._window)
        return rows | self._transform
