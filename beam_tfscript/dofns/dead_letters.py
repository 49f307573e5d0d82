"""Dead letters: which errors become bad records, in which form, and how many bad records fail the job."""

from __future__ import annotations

import collections
import dataclasses
import traceback
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.core import Windowing

from beam_tfscript.data.encoding import BATCHES
from beam_tfscript.errors import ArgumentError, RowError


@dataclasses.dataclass(frozen=True)
class DeadLetters:
    """Settings for dead letters: the arguments of `with_exception_handling`, as Beam's `ParDo` has them.

    A bad record is `(element, (exception type, repr of the exception, lines of the traceback))`, as Beam makes it:
    https://beam.apache.org/releases/pydoc/current/apache_beam.transforms.core.html#apache_beam.transforms.core.ParDo.with_exception_handling

    Attributes:
      main_tag: name of the PCollection of good rows.
      dead_letter_tag: name of the PCollection of bad records.
      exc_class: class or classes of exceptions that become bad records; others fail the bundle.
      threshold: share of bad rows above which the job fails, from 0 to 1; 1 never fails the job.
      threshold_windowing: windows that the share is counted in; None for the windows of the rows.
      error_handler: Beam's `ErrorHandler` that gets the bad records; None to return them as an output.
      on_failure_callback: function that is called with the exception and the element of each bad record.
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
            raise ArgumentError(
                f"threshold must be a number from 0 to 1, the share of rows that may be bad, got {self.threshold!r}."
            )
        for name in (self.main_tag, self.dead_letter_tag):
            if not name.isidentifier() or name.startswith("_"):
                raise ArgumentError(
                    "main_tag and dead_letter_tag must be Python identifiers without a leading underscore, got "
                    f"{name!r}."
                )
        if self.main_tag == self.dead_letter_tag:
            raise ArgumentError(f"main_tag and dead_letter_tag must differ, got {self.main_tag!r} for both.")

    def record(self, element: Any, error: Exception) -> TaggedOutput:
        """Return the bad record of an element, tagged for the output of bad records.

        Raises:
          Exception: `error` itself, if it is not an `exc_class`.
        """
        if not isinstance(error, self.exc_class):
            raise error
        if self.on_failure_callback is not None:
            self.on_failure_callback(error, element)
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        return TaggedOutput(self.dead_letter_tag, (element, (type(error), repr(error), lines)))

    def outputs(self, rows: PCollection | None, good: PCollection, bad: PCollection) -> Any:
        """Return the transform's output: `good` alone if an error handler takes the bad records, else both.

        Args:
          rows: the input, whose rows `threshold` is a share of; None for a transform without input.
          good: rows that the script wrote.
          bad: bad records.
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
            counts = elements | f"Rows{name}" >> beam.Map(_count_rows).with_output_types(int)
            return counts | f"Count{name}" >> beam.CombineGlobally(sum).without_defaults()

        total = beam.pvalue.AsSingleton(count(rows, "All"), default_value=0)
        _ = count(bad, "Bad") | "CheckThreshold" >> beam.Map(_fail_above, total, self.threshold)


def _count_rows(element: Any) -> int:
    """Return the number of rows of an element. A bad record is always of one row."""
    return element.num_rows if isinstance(element, BATCHES) else 1


def _fail_above(bad: int, total: int, threshold: float, window: Any = beam.DoFn.WindowParam) -> None:
    if bad > total * threshold:
        raise RowError(
            f"{bad} of {total} rows are bad in {window}, a larger share than threshold={threshold:g}: correct the rows "
            "or the schemas, or raise threshold."
        )


def _outputs_type(main_tag: str, dead_letter_tag: str) -> type:
    """Return the class of a pair of PCollections, which can also be looked up by their tags, as Beam's results can."""
    pair = collections.namedtuple("Outputs", [main_tag, dead_letter_tag])  # type: ignore[misc]

    class TaggedOutputs(pair):
        __slots__ = ()

        def __getitem__(self, key: Any) -> PCollection:
            return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)

    return TaggedOutputs
