"""Row about a published model, the output of a training."""

# No `from __future__ import annotations`: Beam makes the row's schema from the annotations' types.
import typing

import apache_beam as beam


class TrainedModel(typing.NamedTuple):
    """A published model.

    Attributes:
      uri: the model's directory, `model_dir/<version>`.
      version: a number that grows from training to training; a repeated training gets the same number.
      signatures: JSON: signature -> its `inputs` and `outputs`, name -> dtype and shape.
      dataset_lengths: number of rows of each worker, the chief first.
      seconds: time from the start of the training's processes to the model.
      metrics: JSON: the last value of each name that the script passed to `config.report`.
      history: JSON: a list of the last 10,000 reports by `config.report`, in order.
      attempt: number of the attempt that succeeded, from 1.
    """

    uri: str
    version: int
    signatures: str
    dataset_lengths: typing.Sequence[int]
    seconds: float
    metrics: str
    history: str
    attempt: int


beam.coders.registry.register_coder(TrainedModel, beam.coders.RowCoder)
