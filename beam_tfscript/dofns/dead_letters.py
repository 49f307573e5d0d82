"""Dead letters: which errors become bad records, in Beam's form, and how many are too many."""

from __future__ import annotations

import collections
import dataclasses
import traceback
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.core import Windowing

from beam_tfscript.errors import ArgumentError, RowError


@dataclasses.dataclass(frozen=True)
class BadRecords:
    """The arguments of `with_exception_handling`, as Beam's `ParDo` has them.

    A bad record is `(element, (exception type, repr, traceback lines))`, as Beam makes it.
    """

    main_tag: str = "good"
    dead_letter_tag: str = "bad"
    exc_class: type[BaseException] | tuple[type[BaseException], ...] = Exception
    threshold: float = 1
    threshold_windowing: Windowing | None = None
    error_handler: Any = None
    on_failure_callback: Callable[[Exception, Any], None] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ArgumentError(f"threshold must be a share between 0 and 1, got {self.threshold!r}.")
        for name in (self.main_tag, self.dead_letter_tag):
            if not name.isidentifier() or name.startswith("_"):
                raise ArgumentError(f"main_tag and dead_letter_tag must be plain names, got {name!r}.")
        if self.main_tag == self.dead_letter_tag:
            raise ArgumentError(f"main_tag and dead_letter_tag must differ, both are {self.main_tag!r}.")

    def record(self, element: Any, error: Exception) -> TaggedOutput:
        """The bad record of an element.

        Raises:
          Exception: `error` itself, where `exc_class` does not cover it.
        """
        if not isinstance(error, self.exc_class):
            raise error
        if self.on_failure_callback is not None:
            self.on_failure_callback(error, element)
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        return TaggedOutput(self.dead_letter_tag, (element, (type(error), repr(error), lines)))

    def outputs(self, rows: PCollection | None, good: PCollection, bad: PCollection) -> Any:
        """What the transform gives: `good` alone where an error handler takes the bad records, else both.

        Args:
          rows: the input, which `threshold` is a share of; None where there is none.
          good: the rows that the script wrote.
          bad: the bad records.
        """
        if self.threshold < 1 and rows is not None:
            self._check_threshold(rows, bad)
        if self.error_handler is not None:
            self.error_handler.add_error_pcollection(bad)
            return good
        return _outputs_type(self.main_tag, self.dead_letter_tag)(good, bad)

    def _check_threshold(self, rows: PCollection, bad: PCollection) -> None:
        def count(elements: PCollection, name: str) -> PCollection:
            if self.threshold_windowing is not None:
                elements = elements | f"Window{name}" >> beam.WindowInto(self.threshold_windowing)
            ones = elements | f"Ones{name}" >> beam.Map(lambda _: 1).with_output_types(int)
            return ones | f"Count{name}" >> beam.CombineGlobally(sum).without_defaults()

        total = beam.pvalue.AsSingleton(count(rows, "All"), default_value=0)
        _ = count(bad, "Bad") | "CheckThreshold" >> beam.Map(_fail_above, total, self.threshold)


def _fail_above(bad: int, total: int, threshold: float, window: Any = beam.DoFn.WindowParam) -> None:
    if bad > total * threshold:
        raise RowError(f"{bad} of {total} rows are bad in {window}, more than threshold={threshold:g} of them allows.")


def _outputs_type(main_tag: str, dead_letter_tag: str) -> type:
    """A pair of PCollections that unpacks as `good, bad`, and also answers to their tags, as Beam's results do."""
    pair = collections.namedtuple("Outputs", [main_tag, dead_letter_tag])  # type: ignore[misc]

    class TaggedOutputs(pair):
        __slots__ = ()

        def __getitem__(self, key: Any) -> PCollection:
            return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)

    return TaggedOutputs
