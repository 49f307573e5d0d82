"""ModelRowsToSavedModel: rows of models to published SavedModels."""

# Annotations are not postponed here: Beam reads those of `process` and `expand` as type hints.
import os
import tempfile
import typing

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_tfscript.errors import RowError
from beam_tfscript.models.model_rows import join_rows, unpack
from beam_tfscript.models.model_store import check_model_dir, publish
from beam_tfscript.options.argument_names import check_names

__all__ = ["ModelRowsToSavedModel", "PublishedModel"]


class PublishedModel(typing.NamedTuple):
    """A published model that came as rows.

    Attributes:
      uri: the version's directory in `model_dir`.
      version: number of the version.
      name: the model's name, from row 0.
    """

    uri: str
    version: int
    name: str


class ModelRowsToSavedModel(beam.PTransform):
    """Turn the rows of a model back into a SavedModel, published as the next version in `model_dir`.

        rows | ModelRowsToSavedModel("/models/digits")

    Input elements: `beam.Row`, NamedTuple, dict or pair of `model_id bigint, model_info string`. Row 0 has the model's
    name. The other rows have the parts of a zip file as base64 text. All rows of a window are of one model, in any
    order.

    Output elements: a `PublishedModel(uri, version, name)` for each window, in that window.

    A reader of `model_dir` sees a version complete or not at all. The same rows give the same version, also if a bundle
    is repeated. SavedModels are described in https://www.tensorflow.org/guide/saved_model.

    Args:
      model_dir: a local path, or a URI of any of Beam's file systems
        (https://beam.apache.org/releases/pydoc/current/apache_beam.io.filesystems.html). Versions are directories in
        it.

    Raises:
      ArgumentError: `model_dir` cannot be used; while the pipeline is built.
      RowError: an element has not the form of a model's row; while the pipeline runs.
    """

    @check_names
    def __init__(self, model_dir: str):
        super().__init__()
        self._model_dir = check_model_dir(model_dir)

    def expand(self, pcoll: PCollection) -> PCollection[PublishedModel]:
        """Group all rows of a window, and publish them as a directory."""
        return (
            pcoll
            | "ToPairs" >> beam.Map(_to_pair).with_output_types(beam.typehints.Tuple[int, str])
            | "OneKey" >> beam.WithKeys(0)
            | "GroupRows" >> beam.GroupByKey()
            | "Publish" >> beam.ParDo(_PublishRows(self._model_dir)).with_output_types(PublishedModel)
        )


class _PublishRows(beam.DoFn):
    """(key, rows of a model) -> the published model."""

    def __init__(self, model_dir: str):
        self._model_dir = model_dir

    def process(self, element):
        with tempfile.TemporaryDirectory(prefix="beam-tfscript-model-") as scratch, tempfile.TemporaryFile() as packed:
            name, digest = join_rows(element[1], packed)
            model = os.path.join(scratch, "model")
            unpack(packed, model)
            uri, version = publish(model, self._model_dir, token=f"rows {name} {digest}")
        yield PublishedModel(uri, version, name)


def _to_pair(row) -> tuple[int, str]:
    """Return (model_id, model_info) of an element of any form."""
    try:
        if isinstance(row, dict):
            model_id, model_info = row["model_id"], row["model_info"]
        elif hasattr(row, "model_id"):
            model_id, model_info = row.model_id, row.model_info
        else:
            model_id, model_info = row
        return int(model_id), str(model_info)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RowError(
            f"a row of a model needs model_id (a whole number) and model_info (text): {type(error).__name__}: {error}"
        ) from error
