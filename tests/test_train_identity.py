"""Versions of trainings: one for each training, however often its rows are cut anew or its bundles repeated."""

from __future__ import annotations

import copy
import json
import os
import random

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows, GlobalWindow, TimestampedValue
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_tfscript import TrainTFScript
from beam_tfscript.data import tfrecord
from beam_tfscript.data.checksum import RowsChecksum
from beam_tfscript.data.encoding import RowEncoder
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.train_stream import StreamTraining
from beam_tfscript.feeds.checkpoints import window_name
from tests.running import script
from tests.stages import Shard
from tests.training import LINE, POINTS

pytestmark = pytest.mark.tensorflow

SCHEMA = "id string not null, x float not null, y float not null"


def checksum(*chunks):
    total = RowsChecksum()
    for chunk in chunks:
        total.add(chunk)
    return str(total)


def encode(rows, schema):
    return RowEncoder(Schema.parse(schema)).encode(rows, keep_going=False).examples


WIDE = "id string, x float, words array<string>, n bigint, empty array<float>"
ROWS = [
    {"id": f"row {i}", "x": i / 7, "words": ["a" * (i % 300), "b"], "n": None if i % 5 else i, "empty": []}
    for i in range(500)
]


def test_checksum_is_that_of_the_rows_however_they_are_cut_and_encoded():
    whole = checksum(encode(ROWS, WIDE))
    examples = encode(ROWS, WIDE)  # the order of each row's features is another
    random.Random(1).shuffle(examples)
    assert checksum(examples[:300], examples[300:301], [], examples[301:]) == whole


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:-1],
        lambda rows: [*rows, rows[0]],
        lambda rows: [*rows[:-1], {**rows[-1], "x": 0.5}],
        lambda rows: [*rows[:-1], {**rows[-1], "id": "wor 499"}],
        # Values that change places, between rows, columns and elements.
        lambda rows: [{**rows[0], "x": rows[1]["x"]}, {**rows[1], "x": rows[0]["x"]}, *rows[2:]],
        lambda rows: [{**rows[0], "words": rows[0]["words"][::-1]}, *rows[1:]],
        lambda rows: [{**rows[1], "n": 0, "words": []}, *rows[1:]],
    ],
)
def test_checksum_of_other_rows_is_another(change):
    assert checksum(encode(change(ROWS), WIDE)) != checksum(encode(ROWS, WIDE))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=40), max_size=20), st.randoms())
def test_any_bytes_have_a_checksum(records, rng):
    records += [b"\x0a" + record for record in records] + [b"\x0a\xff\xff\xff\xff\xff", b"\x0a\x80"]
    shuffled = rng.sample(records, len(records))
    assert checksum(shuffled[:3], shuffled[3:]) == checksum(records)
    assert checksum(records[1:]) != checksum(records)


def test_framed_records_are_split_where_they_were_joined():
    assert tfrecord.split(tfrecord.frame([b"", b"a", b"bc" * 1000])) == [b"", b"a", b"bc" * 1000]
    assert tfrecord.split(b"") == []


@pytest.mark.trainings
@pytest.mark.parametrize("feed", ["dataset", "stream"])
def test_job_that_starts_again_publishes_no_second_version(tmp_path, feed):
    """The same job, from its sources on: bundles, chunks and the shard that is dealt to first are others."""
    models = tmp_path / "models"
    entry, file = ("counts_rows", "train.py") if feed == "dataset" else ("exports_without_saying_so", "train_stream.py")
    pipeline = beam.Pipeline("apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    points = [{**point, "id": str(point["id"])} for point in POINTS[:40]]
    schema = LINE.replace("id bigint", "id string")
    _ = (
        pipeline
        | beam.Create(points)
        | TrainTFScript(script(file), str(models), entry=entry, input_schema=schema, num_workers=2, feed=feed)
    )
    for _ in range(2):
        pipeline.run().wait_until_finish()
    assert [name for name in os.listdir(models) if name.isdigit()] == ["1"]


@pytest.fixture
def training(tmp_path):
    """Make stages that train, and tears them down."""
    made = []

    def make(entry, *, has_end=True, **arguments):
        transform = TrainTFScript(
            script("train_stream.py"), str(tmp_path / "models"), input_schema=SCHEMA, entry=entry, feed="stream",
            **arguments,
        )  # fmt: skip
        given = transform._options
        options = given.resolve("stream", given.input_schema, windows_end=has_end)
        dofn = StreamTraining(options, None, transform._train)
        dofn.setup()
        made.append(dofn)
        return dofn

    yield make
    for dofn in made:
        dofn.teardown()


def points(*numbers):
    return [{"id": str(number), "x": 1.0, "y": 2.0} for number in numbers]


def versions(shard):
    return [row["version"] for row in shard.outputs]


@pytest.mark.trainings
def test_bundle_that_is_repeated_publishes_the_versions_that_it_had(training, tmp_path):
    shard = Shard(training("one_model_a_batch"), schema=SCHEMA)
    before = shard.state.value, copy.copy(shard.rows.values)
    shard.bring_rows(points(1, 2))
    shard.fire_end()
    assert versions(shard) == [1]
    shard.state.value, shard.rows.values = before
    shard.bring_rows(points(1, 2))
    shard.fire_end()
    assert versions(shard) == [1, 1]


@pytest.mark.trainings
@pytest.mark.parametrize(("has_end", "expected"), [(True, [1, 2]), (False, [1, 2])])
def test_training_that_dies_publishes_each_model_once(training, tmp_path, has_end, expected):
    params = {"mark": str(tmp_path / "mark"), "dies_at": 0}
    window = {} if has_end else {"window": GlobalWindow()}
    shard = Shard(training("one_model_a_batch", has_end=has_end, user_params=params), schema=SCHEMA, **window)
    shard.bring_rows(points(1, 2, 3, 4))
    shard.bring_rows(points(5, 6, 7, 8))
    shard.fire_end()
    assert sorted(set(versions(shard))) == expected
    assert sorted(name for name in os.listdir(tmp_path / "models") if name.isdigit()) == list(map(str, expected))


@pytest.mark.trainings
def test_rows_that_come_late_are_another_training(training):
    shard = Shard(training("one_model_a_batch"), schema=SCHEMA)
    for number in (1, 2):
        shard.bring_rows(points(number))
        shard.fire_end()
    assert versions(shard) == [1, 2]


@pytest.mark.trainings
@pytest.mark.parametrize(
    ("entry", "expected"), [("exports_without_saying_so", [1]), ("one_model_a_batch", [1]), ("exports_nothing", None)]
)
def test_model_that_is_left_at_the_end_is_published_and_none_is_an_error(training, entry, expected):
    shard = Shard(training(entry, max_attempts=1), schema=SCHEMA)
    shard.bring_rows(points(1, 2))
    if expected is None:
        with pytest.raises(Exception, match="nothing was exported"):
            shard.fire_end()
    else:
        shard.fire_end()
        assert versions(shard) == expected


@pytest.mark.trainings
def test_only_the_chiefs_models_are_published_with_the_rows_of_every_worker(in_memory, tmp_path):
    rows = in_memory.run(
        TrainTFScript(
            script("train_stream.py"), str(tmp_path / "models"), input_schema=SCHEMA, entry="every_task_exports",
            num_workers=2, feed="stream", user_params={"barrier": str(tmp_path / "barrier")},
        ),
        points(*range(10)),
    )  # fmt: skip
    assert [row["version"] for row in rows] == [1, 2]
    assert [sorted(row["dataset_lengths"]) for row in rows] == [[5, 5]] * 2
    assert json.loads(rows[0]["metrics"])


@pytest.mark.trainings
def test_each_window_has_its_own_directory_in_an_explicit_checkpoint_dir(in_memory, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    transform = TrainTFScript(
        script("train.py"), str(tmp_path / "models"), input_schema="id string, x float, y float",
        entry="leaves_checkpoint", checkpoint_dir=str(checkpoints),
    )  # fmt: skip

    def window(rows):
        return rows | beam.Map(lambda row: TimestampedValue(row, int(row["id"]))) | beam.WindowInto(FixedWindows(10))

    assert len(in_memory.run(transform, points(1, 11), before=window)) == 2
    assert sorted(os.listdir(checkpoints)) == [
        "1970-01-01T00-00-00Z--1970-01-01T00-00-10Z", "1970-01-01T00-00-10Z--1970-01-01T00-00-20Z",
    ]  # fmt: skip
    assert all(os.listdir(checkpoints / name) == ["mine"] for name in os.listdir(checkpoints))
    in_memory.run(transform, points(1))
    assert "mine" in os.listdir(checkpoints)  # in the global window the directory itself


def test_names_of_windows_say_when_they_are():
    assert window_name((-5.0, 0.0)) == "1969-12-31T23-59-55Z--1970-01-01T00-00-00Z"
    assert window_name((0.0, 0.5)) == "1970-01-01T00-00-00Z--1970-01-01T00-00-00.500000Z"
    assert window_name((-9.2e12, 9.2e12)) == "-9200000000000--9200000000000"
