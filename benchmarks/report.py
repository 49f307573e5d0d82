"""Figures of contenders in, the printed report and its JSON form out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from benchmarks.digest import Digest
from benchmarks.measure import Measurement

# Sums of a million float32 scores differ by less than this between batch sizes and compilers. One wrong score in a
# hundred thousand makes a larger difference.
_CHECKSUM_TOLERANCE = 1e-6

# The report mentions other work on the machine that takes more than this share of its CPU time.
_QUIET_SHARE = 0.05

# A smaller difference of two total times is noise, and so is a rate that is computed from it.
_LEAST_DIFFERENCE_S = 0.2

LABELS = {
    "plain": "plain TensorFlow script",
    "beam_read": "Beam read + identity",
    "tfscript": "RunTFScript",
    "tfscript_bundles": "RunTFScript, bundles",
    "inference_tuned": "RunInference, tuned",
    "inference_default": "RunInference, default",
    "tfx_bsl": "tfx-bsl RunInference",
}

DEFINITIONS = """\
whole      from the start of the process to its end, interpreter and imports included
start-up   whole time of the same job over a file of one row
rate       rows / whole;   net rate: rows / (whole - start-up)
2nd half   rate of the rows' second half, rows / 2 / (whole - whole time of half the rows): start-up that
           overlaps with work counts in none of it, so it is the rate that longer inputs come near to
CPU s      CPU time of all the job's processes on all cores, which other work on the machine hardly changes
peak MiB   peak resident memory of the pipeline's (or the plain script's) process; child: of the script process"""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One run of one contender over `rows` rows."""

    rows: int
    measurement: Measurement
    digest: Digest


@dataclasses.dataclass(frozen=True)
class Result:
    """Medians of one contender; `half_s` and `startup_s` are None if they were not measured."""

    contender: str
    rows: int
    whole_s: float
    half_s: float | None
    startup_s: float | None
    cpu_s: float
    other_cpu_share: float
    peak_rss_mib: float
    child_peak_mib: float
    digest: Digest

    @property
    def rate(self) -> float:
        """Rows per second of the total time."""
        return self.rows / self.whole_s

    @property
    def net_s(self) -> float | None:
        """Seconds beyond the start-up time; None if they are too few."""
        return _subtract(self.whole_s, self.startup_s)

    @property
    def net_rate(self) -> float | None:
        """Rows per second beyond the start-up time."""
        return None if self.net_s is None else (self.rows - 1) / self.net_s

    @property
    def second_half_rate(self) -> float | None:
        """Rows per second of the second half."""
        half_s = _subtract(self.whole_s, self.half_s)
        return None if half_s is None else (self.rows - self.rows // 2) / half_s

    def estimate_whole_s(self, rows: int) -> float:
        """Return the total time for `rows` rows; estimate it by the net rate if this result has fewer rows."""
        if rows == self.rows:
            return self.whole_s
        if self.startup_s is None or self.net_rate is None:
            return rows / self.rate
        return self.startup_s + rows / self.net_rate


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Ratio with its target; `target` is None for a ratio without one."""

    name: str
    value: float | None
    target: float | None = None
    at_most: bool = True

    def verdict(self) -> str:
        """Return a text: the target, and "met" or "MISSED"."""
        if self.target is None:
            return ""
        wanted = f"target: at {'most' if self.at_most else 'least'} {self.target:g}"
        if self.value is None:
            return f"{wanted}, not measured"
        met = self.value <= self.target if self.at_most else self.value >= self.target
        return f"{wanted}, {'met' if met else 'MISSED'}"


def compare(results: Sequence[Result], *, rows: int, compute_bound: bool) -> list[Ratio]:
    """Compare this project with its peers.

    Args:
      results: one result per contender. A ratio that needs an absent contender has no value.
      rows: rows of the whole file.
      compute_bound: True for the targets of the compute-bound variant.

    Returns:
      The ratios, in the order of the report.
    """
    by_name = {result.contender: result for result in results}
    ours, plain, bundles = (by_name.get(name) for name in ("tfscript", "plain", "tfscript_bundles"))
    if compute_bound:
        return [
            Ratio("whole time / plain script", _divide(_whole(ours, rows), _whole(plain, rows)), 1.05),
            Ratio("time without start-up / plain script", _divide(_field(ours, "net_s"), _field(plain, "net_s"))),
        ]
    larger = max(_whole(by_name.get(name), rows) or math.nan for name in ("plain", "beam_read"))
    ratios = [
        Ratio("whole time / larger of (plain script, Beam read + identity)", _divide(_whole(ours, rows), larger), 2),
        Ratio("bundles: the same", _divide(_whole(bundles, rows), larger), 1.6),
        Ratio(
            "bundles: rate without start-up / RunInference, tuned",
            _divide(_field(bundles, "net_rate"), _field(by_name.get("inference_tuned"), "net_rate")),
            2,
            at_most=False,
        ),
    ]
    for name, target in (("inference_tuned", 1.3), ("inference_default", 10), ("tfx_bsl", None)):
        for field, text in (("net_rate", "rate without start-up"), ("second_half_rate", "rate of the 2nd half")):
            value = _divide(_field(ours, field), _field(by_name.get(name), field))
            ratios.append(
                Ratio(f"{text} / {LABELS[name]}", value, target if field == "net_rate" else None, at_most=False)
            )
    return ratios


def find_disagreement(results: Sequence[Result]) -> str | None:
    """Compare the contenders' predictions.

    Args:
      results: one result per contender; "beam_read" predicts nothing.

    Returns:
      None if all are the same up to float tolerance, else a text with the contenders that differ.
    """
    scored = [result for result in results if result.contender != "beam_read"]
    for result in scored[1:]:
        first = scored[0]
        pairs = [(first.digest.first_checksum, result.digest.first_checksum)]
        if first.rows == result.rows:
            pairs.append((first.digest.checksum, result.digest.checksum))
        if not all(math.isclose(a, b, rel_tol=_CHECKSUM_TOLERANCE) for a, b in pairs):
            return f"{LABELS[first.contender]} and {LABELS[result.contender]} differ: {pairs}"
    return None


def format_report(
    results: Sequence[Result], ratios: Sequence[Ratio], *, rows: int, batch_size: int, repeats: int
) -> str:
    """Return the report's text.

    Args:
      results: one result per contender.
      ratios: result of `compare`.
      rows: rows of the whole file.
      batch_size: rows per batch in the plain script and in this project's script.
      repeats: number of runs; each figure is their median.
    """
    columns = (
        "contender",
        "rows",
        "whole s",
        "start-up s",
        "rate",
        "net rate",
        "2nd half",
        "CPU s",
        "peak MiB",
        "child MiB",
    )
    lines = [
        f"{rows:,} rows, in-memory runner, batches of {batch_size:,}, median of {repeats}",
        "",
        f"{columns[0]:24}" + "".join(f"{column:>11}" for column in columns[1:]),
    ]
    lines += [_format_result(result) for result in results]
    lines += ["", DEFINITIONS, ""]
    for result in results:
        if result.rows != rows:
            lines.append(
                f"{LABELS[result.contender]} was given {result.rows:,} rows: for {rows:,} its whole time would be "
                f"about {result.estimate_whole_s(rows):.0f} s"
            )
        if result.contender == "plain" and result.net_s is not None:
            batch_ms = 1000 * result.net_s * batch_size / result.rows
            lines.append(f"A batch takes the plain script {batch_ms:.2f} ms")
    disturbed = [result for result in results if result.other_cpu_share > _QUIET_SHARE]
    for result in disturbed:
        share = f"{result.other_cpu_share:.0%}"
        lines.append(f"{LABELS[result.contender]}: other work took up to {share} of the machine's CPU time meanwhile")
    lines += ["", "RunTFScript against its peers:"]
    for ratio in ratios:
        lines.append(f"  {ratio.name:62}{_format(ratio.value, '8.2f')}   {ratio.verdict()}".rstrip())
    disagreement = find_disagreement(results)
    lines.append(f"Predictions: {'the same in all contenders' if disagreement is None else disagreement}")
    return "\n".join(lines)


def to_json(results: Sequence[Result], ratios: Sequence[Ratio]) -> dict[str, Any]:
    """Return the report's figures as a JSON object."""
    return {
        "results": [
            {
                **dataclasses.asdict(result),
                "rate": result.rate,
                "net_rate": result.net_rate,
                "second_half_rate": result.second_half_rate,
            }
            for result in results
        ],
        "ratios": [{**dataclasses.asdict(ratio), "verdict": ratio.verdict()} for ratio in ratios],
        "disagreement": find_disagreement(results),
    }


def _format_result(result: Result) -> str:
    cells = (
        f"{result.rows:,}",
        _format(result.whole_s, ".2f"),
        _format(result.startup_s, ".2f"),
        _format(result.rate, ",.0f"),
        _format(result.net_rate, ",.0f"),
        _format(result.second_half_rate, ",.0f"),
        _format(result.cpu_s, ".2f"),
        _format(result.peak_rss_mib, ",.0f"),
        _format(result.child_peak_mib or None, ",.0f"),
    )
    return f"{LABELS[result.contender]:24}" + "".join(f"{cell:>11}" for cell in cells)


def _format(value: float | None, form: str) -> str:
    return format(value, form) if value is not None else "-"


def _whole(result: Result | None, rows: int) -> float | None:
    return None if result is None else result.estimate_whole_s(rows)


def _field(result: Result | None, name: str) -> float | None:
    return None if result is None else getattr(result, name)


def _subtract(whole_s: float, part_s: float | None) -> float | None:
    return None if part_s is None or whole_s - part_s < _LEAST_DIFFERENCE_S else whole_s - part_s


def _divide(value: float | None, by: float | None) -> float | None:
    return None if value is None or by is None or math.isnan(by) else value / by
