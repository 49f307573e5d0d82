"""Reports on predicted digits: predictions and images in, a text table and pictures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

__all__ = ["Prediction", "confusion_matrix", "draw_learning", "draw_report", "format_accuracy", "most_confused"]

DIGITS = 10
IMAGE_ROWS, IMAGE_COLUMNS = 3, 4  # of the gallery beside the matrix; more would be too small to read
FEW_ERRORS = 4  # per cell; with fewer, the darkest red would stand for a single mistake

INK = "#1f2933"
FAINT = "#7b8794"
GRID = "#e4e7eb"
RIGHT = "#e6f0ea"  # pale, so that the many right answers do not drown the few errors
WRONG = "#b42318"
_WRONG_COLOURS = LinearSegmentedColormap.from_list("wrong", ["#fbd9cf", "#f0876c", WRONG])


class Prediction(NamedTuple):
    """A digit that a model has read: row, digit that was written, digit that was read, and the model's confidence."""

    id: int
    label: int
    predicted: int
    confidence: float


def confusion_matrix(predictions: Sequence[Prediction]) -> np.ndarray:
    """Count the readings: an int64 array of shape [written digit, read digit]."""
    counts: np.ndarray = np.zeros((DIGITS, DIGITS), dtype=np.int64)
    for prediction in predictions:
        counts[prediction.label, prediction.predicted] += 1
    return counts


def most_confused(predictions: Sequence[Prediction], *, limit: int) -> list[Prediction]:
    """Return the most confused predictions: wrong ones, the surest first; then right ones, the least sure first."""

    def rank(prediction: Prediction) -> tuple[bool, float, int]:
        is_right = prediction.label == prediction.predicted
        return is_right, prediction.confidence if is_right else -prediction.confidence, prediction.id

    return sorted(predictions, key=rank)[:limit]


def format_accuracy(predictions: Sequence[Prediction]) -> str:
    """Return a table of text: for each digit and for all, the number of rows and of right readings."""
    counts = confusion_matrix(predictions)
    lines = ["digit   rows   right   accuracy"]
    for digit in range(DIGITS):
        lines.append(_accuracy_line(str(digit), int(counts[digit].sum()), int(counts[digit, digit])))
    lines.append(_accuracy_line("all", int(counts.sum()), int(counts.trace())))
    return "\n".join(lines)


def draw_learning(history: Sequence[Mapping[str, float]], file: IO[bytes]) -> None:
    """Draw loss and accuracy by epoch as PNG, on the rows for training and on those held back.

    Args:
      history: for each epoch `epoch`, `loss`, `accuracy`, `watched_loss` and `watched_accuracy`.
      file: binary file that the PNG is written to.
    """
    figure = Figure(figsize=(11, 4.6), facecolor="white", layout="constrained")
    epochs = [point["epoch"] for point in history]
    for axes, name, title in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("loss", "accuracy")):
        axes.plot(epochs, [point[name] for point in history], color=FAINT, label="rows learned from")
        axes.plot(epochs, [point[f"watched_{name}"] for point in history], color=WRONG, label="rows held back")
        axes.set_title(title, loc="left", color=INK)
        axes.set_xlabel("epoch", color=FAINT)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color=GRID)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, labelcolor=INK)
    figure.savefig(file, format="png", dpi=120)


def draw_report(predictions: Sequence[Prediction], images: Mapping[int, np.ndarray], file: IO[bytes]) -> None:
    """Draw the confusion matrix, and beside it the most confused images, as PNG.

    Args:
      predictions: predictions to draw.
      images: id of a prediction -> its 8 x 8 image.
      file: binary file that the PNG is written to.
    """
    counts = confusion_matrix(predictions)
    figure = Figure(figsize=(14, 7.4), facecolor="white")
    share = _percent(int(counts.trace()), len(predictions))
    _draw_heading(
        figure,
        0.045,
        f"{share} of {len(predictions):,} digits read right",
        "handwritten digits that the model had not seen",
    )
    _draw_matrix(figure.add_axes((0.075, 0.085, 0.42, 0.73)), counts)
    _draw_gallery(figure, predictions, images)
    # A Figure made without pyplot draws with Agg: it needs no display, and sets no global state.
    figure.savefig(file, format="png", dpi=110)


def _accuracy_line(name: str, rows: int, right: int) -> str:
    return f"{name:>5}  {rows:>5}  {right:>6}  {_percent(right, rows):>9}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _draw_heading(figure: Figure, left: float, title: str, subtitle: str) -> None:
    figure.text(left, 0.93, title, fontsize=22, fontweight="bold", color=INK)
    figure.text(left, 0.888, subtitle, fontsize=13, color=FAINT)


def _draw_matrix(axes: Axes, counts: np.ndarray) -> None:
    errors = counts.copy()
    np.fill_diagonal(errors, 0)
    worst = max(int(errors.max()), FEW_ERRORS)
    for label in range(DIGITS):
        for predicted in range(DIGITS):
            _draw_cell(axes, label, predicted, int(counts[label, predicted]), worst)
        share = _percent(int(counts[label, label]), int(counts[label].sum()))
        axes.text(DIGITS - 0.2, label, share, va="center", fontsize=11, color=FAINT)
    axes.text(DIGITS - 0.2, -0.92, "right", fontsize=11, color=FAINT)
    axes.set(xlim=(-0.5, DIGITS - 0.5), ylim=(DIGITS - 0.5, -0.5), xticks=range(DIGITS), yticks=range(DIGITS))
    axes.set_aspect("equal", anchor="W")
    axes.set_xlabel("read as", fontsize=13, color=INK, labelpad=8)
    axes.set_ylabel("written", fontsize=13, color=INK, labelpad=8)
    axes.tick_params(length=0, labelsize=13, labelcolor=INK)
    axes.spines[:].set_color(GRID)


def _draw_cell(axes: Axes, label: int, predicted: int, count: int, worst: int) -> None:
    """Draw one cell: right answers pale whatever their number, errors the redder the more there are."""
    colour: object = "white"
    if label == predicted:
        colour = RIGHT
    elif count:
        colour = _WRONG_COLOURS(count / worst)
    axes.add_patch(Rectangle((predicted - 0.5, label - 0.5), 1, 1, facecolor=colour, edgecolor=GRID))
    if count:
        is_dark = label != predicted and count / worst > 0.6
        axes.text(
            predicted,
            label,
            str(count),
            ha="center",
            va="center",
            fontsize=13,
            fontweight="normal" if label == predicted else "bold",
            color="white" if is_dark else INK,
        )


def _draw_gallery(figure: Figure, predictions: Sequence[Prediction], images: Mapping[int, np.ndarray]) -> None:
    _draw_heading(figure, 0.575, "Most confused", "written → read as, and how sure the model was (red: wrong)")
    shown = most_confused(predictions, limit=IMAGE_ROWS * IMAGE_COLUMNS)
    for number, prediction in enumerate(shown):
        row, column = divmod(number, IMAGE_COLUMNS)
        axes = figure.add_axes((0.575 + 0.103 * column, 0.615 - 0.265 * row, 0.088, 0.167))
        _draw_image(axes, prediction, images[prediction.id])


def _draw_image(axes: Axes, prediction: Prediction, image: np.ndarray) -> None:
    is_right = prediction.label == prediction.predicted
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=16, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=GRID if is_right else WRONG, linewidth=1.5)
    axes.text(
        0,
        1.07,
        f"{prediction.label} → {prediction.predicted}",
        transform=axes.transAxes,
        fontsize=15,
        fontweight="bold",
        color=INK if is_right else WRONG,
    )
    axes.text(
        1, 1.07, f"{100 * prediction.confidence:.0f} %", transform=axes.transAxes, fontsize=12, ha="right", color=FAINT
    )
