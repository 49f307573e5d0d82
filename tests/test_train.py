"""TrainTFScript with one process: the model that comes out is whole, checked, and published once."""

from __future__ import annotations

import base64
import os
import pathlib
import threading
import types

import apache_beam as beam
import pytest
from apache_beam.portability.api import schema_pb2
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript import ModelRowsToSavedModel, TrainTFScript
from beam_tfscript.models import model_store
from beam_tfscript.models.model_rows import ModelRow
from beam_tfscript.models.trained_model import TrainedModel
from tests.running import Runner, script
from tests.training import POINTS, line_training, read_row, serve, train

pytestmark = pytest.mark.tensorflow


def test_keras_fit_publishes_a_model_that_tensorflow_loads(in_memory, tmp_path):
    row = train(in_memory, "train.py", tmp_path / "models", "keras_fit", user_params={"epochs": 3})
    assert row["uri"] == str(tmp_path / "models" / "1") and (row["version"], row["attempt"]) == (1, 1)
    signature = row["signatures"]["serving_default"]
    assert signature["method"] == "tensorflow/serving/predict"
    ((name, taken),) = signature["inputs"].items()
    assert taken == {"dtype": "float32", "shape": [None, 1]}
    assert list(signature["outputs"].values()) == [{"dtype": "float32", "shape": [None, 1]}]
    assert [told["step"] for told in row["history"]] == [0, 1, 2]
    losses = [told["loss"] for told in row["history"]]
    assert losses == sorted(losses, reverse=True) and row["metrics"] == {"loss": losses[-1], "step": 2}
    assert row["dataset_lengths"] == [320] and 1 < row["seconds"] < 300
    (answer,) = serve(row["uri"], **{name: [[0.5]]}).values()
    assert len(answer) == 1 and 0.5 < answer[0][0] < 4.5


class TestOneTask:
    @pytest.mark.parametrize("tf_config", [None, "always"])
    def test_tf_config_is_set_only_where_asked_for(self, in_memory, tmp_path, monkeypatch, tf_config):
        # That the pipeline's own process is a task of something is not the script's affair.
        monkeypatch.setenv("TF_CONFIG", '{"cluster": {"chief": ["elsewhere:1"]}}')
        rows = in_memory.run(line_training("train.py", tmp_path, "place", tf_config=tf_config), None)
        (metrics,) = [read_row(row)["metrics"] for row in rows]
        # Without rows, too.
        assert metrics == {"has_tf_config": tf_config == "always", "rows": 0, "workers": 1}

    def test_empty_input_trains_nothing(self, in_memory, tmp_path):
        assert in_memory.run(line_training("train.py", tmp_path / "models", "keras_fit"), []) == []
        assert not (tmp_path / "models").exists() and "runs" not in in_memory.metrics


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("exports_nothing", "nothing was exported: .*model does not exist"),
        ("exports_two", r"holds 2 SavedModels \(first, second\), and one is expected"),
        ("exports_broken", "the SavedModel in .* does not load: .*variables"),
        ("reports_text", r"report\(\) takes numbers, got loss='small'"),
    ],
)
def test_what_is_no_model_is_told_and_not_published(in_memory, tmp_path, entry, said):
    attempts = 1 if entry == "reports_text" else 3  # another attempt would not make another model
    with pytest.raises(Exception, match=f"(?s)train.py chief:0 shard 0/1 attempt 1: .*{said}"):
        train(in_memory, "train.py", tmp_path / "models", entry, max_attempts=attempts)
    assert not (tmp_path / "models").exists()


def note(tmp_path, **arguments):
    """A training that writes down how many had begun in its checkpoint directory before."""
    return line_training(
        "train.py", tmp_path / "models", "note_and_export", user_params={"log": str(tmp_path / "log")}, **arguments
    )


@pytest.mark.trainings
def test_version_grows_with_each_training_and_checkpoints_last_where_they_are_kept(in_memory, tmp_path):
    (tmp_path / "kept").mkdir()
    for version in (1, 2):
        (row,) = in_memory.run(note(tmp_path, checkpoint_dir=str(tmp_path / "kept")), POINTS)
        assert row["version"] == version and row["uri"] == str(tmp_path / "models" / str(version))
    assert (tmp_path / "log").read_text().split() == ["0", "1"]
    assert sorted(os.listdir(tmp_path / "models")) == [".publishing", "1", "2"]


@pytest.mark.trainings
def test_version_is_the_same_when_the_bundle_is_repeated(tmp_path, monkeypatch):
    published = []

    def publish_and_fail(*args, **arguments):
        published.append(model_store.publish(*args, **arguments))
        if len(published) < 3:
            raise OSError("lost after it was published")
        return published[-1]

    monkeypatch.setattr("beam_tfscript.dofns.run_cluster.model_store", types.SimpleNamespace(publish=publish_and_fail))
    # The engine that repeats bundles; it does not tear down the DoFns of those that failed.
    monkeypatch.setattr("beam_tfscript.worker.pool.IDLE_TIMEOUT_S", 4.0)
    (row,) = Runner("bundle_based", tmp_path).run(note(tmp_path), POINTS)
    assert published == [(str(tmp_path / "models" / "1"), 1)] * 3 and row["version"] == 1
    # Each goes on from what the one before has left.
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2"]
    assert sorted(os.listdir(tmp_path / "models")) == [".publishing", "1"]


@pytest.mark.trainings
def test_each_window_gives_a_model_and_a_reader_never_sees_half_of_one(in_memory, tmp_path):
    def window(rows):
        return rows | beam.Map(lambda row: TimestampedValue(row, row["id"])) | beam.WindowInto(FixedWindows(160))

    models = tmp_path / "models"
    with watched(models) as watch:
        outputs = in_memory.outputs(line_training("train.py", models, "window_start"), POINTS, before=window)["good"]
    assert watch.looks > 10 and not watch.partial
    by_window = {output.window[0]: output for output in outputs}
    assert sorted(by_window) == [0, 160] and sorted(os.listdir(models)) == [".publishing", "1", "2"]
    for start, output in by_window.items():
        assert output.timestamp == pytest.approx(start + 160, abs=0.01)
        assert output.row["dataset_lengths"] == [160]
    row = by_window[160].row
    assert serve(row["uri"], x=[1.0, 2.0])["y"] == [160.0, 320.0]


class TrainThenPublish(beam.PTransform):
    """A model as rows, made a directory of again behind a shuffle; gives both."""

    def __init__(self, model_dir):
        super().__init__()
        self._model_dir = model_dir

    def expand(self, pipeline):
        rows = pipeline | line_training("train.py", None, "place")
        published = rows | ModelRowsToSavedModel(str(self._model_dir))
        return (rows, published) | beam.Flatten()


@pytest.mark.trainings
def test_a_model_that_came_as_rows_is_the_same_model(in_memory, tmp_path):
    found = in_memory.run(TrainThenPublish(tmp_path), None)
    rows = sorted((row["model_id"], row["model_info"]) for row in found if "model_id" in row)
    assert rows[0] == (0, "train") and [number for number, _ in rows] == list(range(len(rows)))
    assert base64.b64decode(rows[1][1]).startswith(b"PK")
    (published,) = [row for row in found if "uri" in row]
    assert published == {"uri": str(tmp_path / "1"), "version": 1, "name": "train"}
    assert serve(published["uri"], x=[3.0])["y"] == [6.0]


def test_rows_have_the_types_that_are_promised():
    pipeline = beam.Pipeline()
    models = pipeline | TrainTFScript(script("train.py"), "/models", entry="place")
    rows = pipeline | "Rows" >> TrainTFScript(script("train.py"), None, entry="place")
    assert (models.element_type, rows.element_type) == (TrainedModel, ModelRow)
    fields = beam.coders.registry.get_coder(TrainedModel).schema.fields
    kinds = {field.name: schema_pb2.AtomicType.Name(field.type.atomic_type) for field in fields}
    assert kinds == {
        "uri": "STRING", "version": "INT64", "signatures": "STRING", "dataset_lengths": "UNSPECIFIED",
        "seconds": "DOUBLE", "metrics": "STRING", "history": "STRING", "attempt": "INT64",
    }  # fmt: skip
    (lengths,) = [field.type for field in fields if field.name == "dataset_lengths"]
    assert schema_pb2.AtomicType.Name(lengths.array_type.element_type.atomic_type) == "INT64"


class watched:
    """Lists a directory of models over and over while the block runs; notes what is not whole in it."""

    def __init__(self, directory: pathlib.Path):
        self._directory = directory
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.looks = 0
        self.partial: list[str] = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self.looks += 1
            for version in self._directory.glob("[0-9]*"):
                names = {str(path.relative_to(version)) for path in version.rglob("*") if path.is_file()}
                wanted = {"saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"}
                if not wanted <= names or not all((version / name).stat().st_size for name in wanted):
                    self.partial.append(f"{version}: {sorted(names)}")
