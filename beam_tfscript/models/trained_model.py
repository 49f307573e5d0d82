"""What a training gives: one row about a model that is published, or the model itself as rows."""

# Annotations are not postponed here: Beam makes the row's schema of them.
import json
import typing

import apache_beam as beam


class TrainedModel(typing.NamedTuple):
    """A model that is published.

    Attributes:
      uri: its directory, `model_dir/<version>`.
      version: a number that grows from training to training, and is the same when a training is repeated.
      signatures: JSON: signature -> its `inputs` and `outputs`, name -> dtype and shape.
      dataset_lengths: rows of each worker, the chief first.
      seconds: what the training took, from its processes' start to the model.
      metrics: JSON: the last value of each name that the script gave to `config.report`.
      history: JSON: a list of all that it gave, in order.
      attempt: which try has done it, from 1.
    """

    uri: str
    version: int
    signatures: str
    dataset_lengths: typing.Sequence[int]
    seconds: float
    metrics: str
    history: str
    attempt: int

    @classmethod
    def of(
        cls, uri: str, version: int, signatures: dict, outcome: typing.Any, last: str, course: str
    ) -> "TrainedModel":
        """The row of a training's outcome."""
        lengths = list(outcome.dataset_lengths)
        return cls(uri, version, json.dumps(signatures), lengths, outcome.seconds, last, course, outcome.attempt)


beam.coders.registry.register_coder(TrainedModel, beam.coders.RowCoder)
