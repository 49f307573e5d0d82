"""Models as rows: exactly the same files come back."""

from __future__ import annotations

import base64
import io
import os
import pathlib
import random
import stat
import zipfile

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript.errors import ArgumentError, RowError, ScriptEnvironmentError
from beam_tfscript.models.model_rows import ModelRow, model_to_rows
from beam_tfscript.transforms.model_rows_to_saved_model import ModelRowsToSavedModel, PublishedModel
from tests.model_rows import rows_to_model

ENGINE = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
LARGE = random.Random(7).randbytes(2_500_000)
FILES = {"saved_model.pb": b"model", "variables/variables.data": LARGE, "assets/größe.txt": b"", "assets/z": b"z"}


def make_model(directory: pathlib.Path, files: dict[str, bytes] = FILES) -> str:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    (directory / "empty").mkdir()
    return str(directory)


def content_of(directory: str | pathlib.Path) -> dict[str, bytes]:
    root = pathlib.Path(directory)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def zip_rows(entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> list[tuple[int, str]]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return [(0, "bad"), (1, base64.b64encode(packed.getvalue()).decode())]


def test_rows_in_any_order_make_the_same_directory(tmp_path):
    rows = list(model_to_rows(make_model(tmp_path / "model"), "digits"))
    random.Random(3).shuffle(rows)
    assert rows_to_model(rows, str(tmp_path / "again")) == "digits"
    assert content_of(tmp_path / "again") == FILES
    assert (tmp_path / "again" / "empty").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "model"]


def test_row_0_is_the_name_and_no_row_is_longer_than_a_mebibyte(tmp_path):
    rows = list(model_to_rows(make_model(tmp_path / "model"), "digits"))
    assert rows[0] == (0, "digits") and [number for number, _ in rows] == list(range(len(rows)))
    assert [len(text) for _, text in rows[1:-1]] == [1 << 20] * 3 and 0 < len(rows[-1][1]) <= 1 << 20
    # Anybody can read them: the parts' text is that of one zip file.
    packed = base64.b64decode("".join(text for _, text in rows[1:]))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None and archive.read("variables/variables.data") == LARGE


def test_the_same_files_give_the_same_rows(tmp_path):
    first = make_model(tmp_path / "first")
    second = make_model(tmp_path / "second", dict(reversed(FILES.items())))
    os.utime(pathlib.Path(second) / "saved_model.pb", (0, 0))
    os.chmod(pathlib.Path(second) / "saved_model.pb", 0o600)
    assert list(model_to_rows(first, "a")) == list(model_to_rows(second, "a"))


def test_rows_made_elsewhere_may_be_compressed_and_of_any_size(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("saved_model.pb", b"x" * 10_000)
    data = packed.getvalue()
    rows = [(0, "m"), *((1 + at, base64.b64encode(data[at : at + 1]).decode()) for at in range(len(data)))]
    assert rows_to_model(rows, str(tmp_path / "m")) == "m"
    assert content_of(tmp_path / "m") == {"saved_model.pb": b"x" * 10_000}


ROWS = [(0, "m"), (1, "AAAA"), (2, "AAAA"), (3, "AAAA")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "row 0, which holds its name, is missing"),
        (ROWS[1:], "row 0, which holds its name, is missing"),
        (ROWS[:1], "rows 1 to 1, 1 are missing: 1"),
        ([ROWS[0], ROWS[1], ROWS[3]], "rows 1 to 3, 1 are missing: 2"),
        ([ROWS[0], (10**15, "AAAA")], "are missing: 1, 2, 3, 4, 5 …"),
        ([*ROWS, ROWS[2]], "row 2 comes twice"),
        ([*ROWS, ROWS[0]], "row 0 comes twice"),
        ([*ROWS, (-1, "AAAA")], "model_id must be at least 0, got -1"),
        ([ROWS[0], (1, "not base64!")], "row 1 is not base64"),
        ([ROWS[0], (1, "größe")], "row 1 is not base64"),
        (ROWS, "do not make a zip file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rejects_rows_that_are_no_model(tmp_path, rows, message):
    with pytest.raises(RowError, match=message):
        rows_to_model(rows, str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("last", [-1, -2])
def test_rejects_a_model_whose_last_rows_are_missing(tmp_path, last):
    rows = list(model_to_rows(make_model(tmp_path / "model"), "digits"))
    with pytest.raises(RowError, match="the last ones may be missing"):
        rows_to_model(rows[:last], str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_rejects_a_model_with_damaged_content(tmp_path):
    rows = dict(model_to_rows(make_model(tmp_path / "model"), "digits"))
    rows[2] = rows[2][:4000] + ("AAAA" if rows[2][4000:4004] != "AAAA" else "BBBB") + rows[2][4004:]
    with pytest.raises(RowError, match="CRC"):
        rows_to_model(rows.items(), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def link_to(target: str) -> list[tuple[zipfile.ZipInfo | str, bytes]]:
    entry = zipfile.ZipInfo("link")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return [(entry, target.encode()), ("link/saved_model.pb", b"")]


@pytest.mark.parametrize(
    "entries",
    [
        [("../evil", b"")],
        [("a/../../evil", b"")],
        [("/evil", b"")],
        [("..\\evil", b"")],
        [("saved_model.pb", b""), ("variables/..", b"")],
        link_to("/tmp"),
    ],
    ids=str,
)
def test_nothing_is_written_outside_of_the_directory(tmp_path, entries):
    with pytest.raises(RowError, match="may lead out of its directory"):
        rows_to_model(zip_rows(entries), str(tmp_path / "in" / "out"))
    assert list((tmp_path / "in").iterdir()) == [] and [path.name for path in tmp_path.iterdir()] == ["in"]


def test_rejects_two_entries_of_one_name_and_a_file_that_is_a_directory(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        rows = zip_rows([("a", b"1"), ("a", b"2")])
    with pytest.raises(RowError, match="two entries of one name"):
        rows_to_model(rows, str(tmp_path / "out"))
    with pytest.raises(RowError, match="do not make a zip file"):
        rows_to_model(zip_rows([("a", b"1"), ("a/b", b"2")]), str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_doesnt_write_into_a_directory_that_has_something_in_it(tmp_path):
    (tmp_path / "out").mkdir()
    rows = list(model_to_rows(make_model(tmp_path / "model"), "digits"))
    assert rows_to_model(rows, str(tmp_path / "out")) == "digits"
    with pytest.raises(ScriptEnvironmentError, match="must be empty"):
        rows_to_model(rows, str(tmp_path / "out"))
    assert content_of(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "form",
    [
        lambda row: beam.Row(model_id=row[0], model_info=row[1]),
        lambda row: ModelRow(*row),
        lambda row: {"model_id": row[0], "model_info": row[1]},
        lambda row: row,
    ],
    ids=["beam.Row", "NamedTuple", "dict", "pair"],
)
def test_a_pipeline_turns_rows_back_into_a_version(tmp_path, form):
    model = make_model(tmp_path / "model")

    def rows(_):  # made in the pipeline: rows that are given to Create are compressed into the job graph
        return [form(row) for row in model_to_rows(model, "digits")][::-1]

    store = tmp_path / "store"
    expected = [PublishedModel(str(store / "1"), 1, "digits")]
    for _ in range(2):  # the same rows again are the same version
        with beam.Pipeline(runner=ENGINE) as pipeline:
            published = pipeline | beam.Create([None]) | beam.FlatMap(rows) | ModelRowsToSavedModel(str(store))
            assert_that(published | beam.Map(lambda row: PublishedModel(*row)), equal_to(expected))
    content = content_of(store / "1")
    assert {name: content[name] for name in FILES} == FILES


def test_each_window_holds_a_model(tmp_path):
    models = [make_model(tmp_path / name, {"saved_model.pb": name.encode()}) for name in ("a", "b")]
    rows = [
        TimestampedValue(ModelRow(*row), 10 * number)
        for number, model in enumerate(models)
        for row in model_to_rows(model, os.path.basename(model))
    ]
    with beam.Pipeline(runner=ENGINE) as pipeline:
        windowed = pipeline | beam.Create(rows) | beam.Map(lambda row: row) | beam.WindowInto(FixedWindows(10))
        _ = windowed | ModelRowsToSavedModel(str(tmp_path / "store"))
    found = {content_of(tmp_path / "store" / version)["saved_model.pb"] for version in ("1", "2")}
    assert found == {b"a", b"b"}


def test_rejects_elements_that_are_no_rows_of_a_model(tmp_path):
    with pytest.raises(Exception, match="a row of a model needs model_id"), beam.Pipeline(runner=ENGINE) as pipeline:
        _ = pipeline | beam.Create([{"id": 1}]) | ModelRowsToSavedModel(str(tmp_path / "store"))


def test_rejects_a_directory_of_no_file_system_while_the_pipeline_is_built():
    with pytest.raises(ArgumentError, match="no file system is known"):
        ModelRowsToSavedModel("nonesuch://models")
