"""Transport of rows as files in a spool directory: what the script is given, and that no file is left."""

from __future__ import annotations

import json
import os
import time

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript import RunTFScript, TrainTFScript, metrics
from beam_tfscript.data import chunks, tfrecord
from beam_tfscript.data.checksum import RowsChecksum
from beam_tfscript.dofns import spool_chunks
from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError
from beam_tfscript.files import row_spool
from beam_tfscript.options.arguments.signatures import RUN_TF_SCRIPT
from beam_tfscript.options.script_options import check_run_arguments
from beam_tfscript.transforms.spool_plan import plan_spool
from tests.memory_file_system import MEMORY
from tests.running import script

NUM_ROWS = 2000
ROWS = [{"id": str(number), "x": float(number)} for number in range(NUM_ROWS)]
SCHEMA = "id string, x float"
SIZES = "shard bigint, attempt bigint, path string, size bigint"
WAYS = "way string, shard bigint, rows bigint, distinct bigint, parts bigint"


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Fill several chunks and files with few rows."""
    monkeypatch.setattr(chunks, "CHUNK_TARGET_BYTES", 4 << 10)
    monkeypatch.setattr(row_spool, "FILE_TARGET_BYTES", 16 << 10)


@pytest.fixture(params=["local", "memdirs", "memkeys"])
def spool_dir(request, tmp_path):
    """A local directory, a remote file system, and an object store, which has no directories."""
    MEMORY.files.clear()
    yield str(tmp_path / "spool") if request.param == "local" else f"{request.param}://bucket/spool"
    MEMORY.files.clear()


def left(directory):
    """Return the files in a spool directory."""
    if "://" in directory:
        return sorted(path for path in MEMORY.files if path.startswith(directory))
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names)


def echo(entry="sizes", schema=SIZES, **arguments):
    arguments = {"num_workers": 2, "transport": "files", **arguments}
    return RunTFScript(script("spooled.py"), schema, input_schema=SCHEMA, entry=entry, **arguments)


def run(transform, rows=ROWS, *, check=None, window=None):
    """Run a pipeline on the in-memory engine; return its metrics."""
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    source = pipeline | beam.Create(rows, reshuffle=False)
    if window is not None:
        source = source | beam.Map(lambda row: TimestampedValue(row, row["x"])) | beam.WindowInto(window)
    outputs = source | transform
    if check is not None:
        assert_that(outputs | beam.Map(lambda row: row._asdict()), check)
    result = pipeline.run()
    result.wait_until_finish()
    return result.metrics()


def counter(result, name):
    found = result.query(beam.metrics.MetricsFilter().with_namespace(metrics.NAMESPACE).with_name(name))["counters"]
    return sum(metric.committed for metric in found)


@pytest.mark.tensorflow
def test_script_reads_all_rows_in_every_way(spool_dir):
    def check(rows):
        assert {row["way"] for row in rows} == {"parts", "batches", "examples", "tensors", "file", "dict"}
        for row in rows:
            assert row["rows"] == row["distinct"] == NUM_ROWS / 2
            assert row["parts"] > 1

    run(echo("count_ways", WAYS, spool_dir=spool_dir), check=check)
    assert not left(spool_dir)


def test_script_is_given_files_of_the_target_size(spool_dir):
    def check(rows):
        for shard in (0, 1):
            sizes = [row["size"] for row in rows if row["shard"] == shard]
            assert len(sizes) > 1 and max(sizes) >= 16 << 10

    assert counter(run(echo(spool_dir=spool_dir), check=check), "bytes_spooled") > 0
    assert not left(spool_dir)


def test_each_window_has_files_of_its_own(spool_dir):
    def check(rows):
        assert len(rows) >= 20  # ten windows, two shards

    run(echo(spool_dir=spool_dir), check=check, window=FixedWindows(NUM_ROWS / 10))
    assert not left(spool_dir)


def test_repeat_reads_the_same_files(spool_dir):
    seen = []

    def check(rows):
        seen.append({(row["attempt"], row["path"]) for row in rows})

    transform = echo(spool_dir=spool_dir, num_workers=1, max_attempts=3, user_params={"failures": 2})
    run(transform, check=check)
    assert not left(spool_dir)


def test_only_large_data_is_spooled_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_chunks, "SHUFFLED_BYTES", 16 << 10)
    spool = str(tmp_path / "spool")
    assert counter(run(echo(spool_dir=spool, transport=None), ROWS[:100]), "bytes_spooled") == 0

    def check(rows):
        assert any(row["path"].startswith("dataset-") for row in rows)  # through the shuffle
        assert any(not row["path"].startswith("dataset-") for row in rows)

    assert counter(run(echo(spool_dir=spool, transport=None), check=check), "bytes_spooled") > 0
    assert not left(spool)


def test_nothing_is_spooled_where_the_shuffle_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_chunks, "SHUFFLED_BYTES", 0)
    assert counter(run(echo(spool_dir=str(tmp_path), transport="shuffle")), "bytes_spooled") == 0


@pytest.mark.tensorflow
@pytest.mark.trainings
@pytest.mark.parametrize(("spool_dir", "num_workers"), [("memkeys", 1), ("local", 2)], indirect=["spool_dir"])
def test_training_reads_spooled_rows(spool_dir, tmp_path, num_workers):
    train = TrainTFScript(
        script("spooled.py"), str(tmp_path / "models"), entry="train", input_schema=SCHEMA, num_workers=num_workers,
        transport="files", spool_dir=spool_dir,
    )  # fmt: skip

    def check(rows):
        (row,) = rows
        assert json.loads(row["metrics"]) == {"rows": NUM_ROWS, "distinct": NUM_ROWS}
        assert sum(row["dataset_lengths"]) == NUM_ROWS

    run(train, check=check)
    assert not left(spool_dir)


def test_checksum_of_a_training_is_the_same_by_both_transports(tmp_path):
    """A repeated training is known by it, whatever the way of its rows."""
    whole, parts = RowsChecksum(), RowsChecksum()
    records = [str(number).encode() for number in range(100)]
    whole.add(tfrecord.split(tfrecord.frame(records)))
    for part in (records[:30], records[30:]):
        of_file = RowsChecksum()
        of_file.add(part)
        parts.add_sums(str(of_file))
    assert str(parts) == str(whole)


def test_failed_job_leaves_no_file(spool_dir):
    with pytest.raises(Exception, match="this attempt fails"):
        run(echo(spool_dir=spool_dir, user_params={"failures": 9}))
    assert not left(spool_dir)


def test_bundle_that_fails_while_it_spools_leaves_no_file(spool_dir):
    bad = [*ROWS, {"id": "bad", "x": "no number"}]
    with pytest.raises(Exception, match="no number"):
        run(echo(spool_dir=spool_dir), bad)
    assert not left(spool_dir)


def test_job_removes_what_a_killed_job_has_left(tmp_path):
    old, new = tmp_path / "beam_tfscript_rows-old", tmp_path / "beam_tfscript_rows-new"
    for directory in (old, new):
        directory.mkdir()
        (directory / "1.tfrecord").write_bytes(b"rows")
        (directory / "alive").write_bytes(b"")
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "rows").write_bytes(b"mine")
    for path in (*old.iterdir(), *foreign.iterdir()):
        os.utime(path, (time.time() - row_spool.ABANDONED_S - 60,) * 2)
    run(echo(spool_dir=str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beam_tfscript_rows-new", "mine"]


@pytest.mark.parametrize(
    ("damage", "message"), [(os.remove, "No such file"), (lambda path: os.truncate(path, 10), "10 bytes are there, of")]
)
def test_missing_or_damaged_file_is_an_error_that_says_what_to_do(tmp_path, damage, message):
    writer = row_spool.SpoolWriter(str(tmp_path / "spool"), str(tmp_path))
    writer.add("key", 1, b"x" * 100)
    ((_, _, file),) = writer.finish()
    damage(file.path)
    with pytest.raises(ScriptEnvironmentError, match=f"{message}(.|\n)*Every worker must see spool_dir"):
        row_spool.fetch_files([file], str(tmp_path))


@pytest.mark.parametrize(("parent", "expected"), [(0o1777, 0o700), (0o777, 0o777), (0o750, 0o750)])
def test_rows_are_for_those_who_may_use_the_directory_above(tmp_path, parent, expected):
    """Workers on other machines may be other users; strangers who share /tmp may read nothing."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(parent)
    writer = row_spool.SpoolWriter(str(tmp_path / "spool" / "job"), str(tmp_path))
    writer.add("key", 1, b"x" * 100)
    assert (tmp_path / "spool" / "job").stat().st_mode & 0o7777 == expected
    writer.abandon()


def test_unwritable_directory_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match=r"rows cannot be written to .*Every worker must see spool_dir"):
        run(echo(spool_dir=str(tmp_path / "file" / "spool")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"transport": "tape"}, r"transport must be one of 'shuffle', 'files' or None, got 'tape'"),
        ({"feed": "stream", "transport": "files"}, 'transport has no meaning in feed="stream"'),
        ({"spool_dir": "nowhere://x"}, "spool_dir: no file system is known for 'nowhere://x'"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        RunTFScript(script("echo.py"), SCHEMA, input_schema=SCHEMA, **arguments)


def test_files_are_refused_for_unbounded_input(tmp_path):
    rows = beam.Pipeline() | TestStream().advance_watermark_to_infinity()
    with pytest.raises(ArgumentError, match='transport="files" is not possible: the input is unbounded'):
        _ = rows | echo(feed="dataset", spool_dir=str(tmp_path))


def test_files_are_refused_where_no_directory_is_known():
    options = PipelineOptions(["--runner=PortableRunner", "--job_endpoint=localhost:1", "--environment_type=DOCKER"])
    rows = beam.Pipeline(options=options) | beam.Create(ROWS)
    with pytest.raises(ArgumentError, match="no spool directory is known: give spool_dir, or --temp_location"):
        _ = rows | echo()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], True),
        (["--runner=PrismRunner"], True),
        (["--runner=PortableRunner", "--job_endpoint=h:1", "--environment_type=LOOPBACK"], True),
        (["--runner=PortableRunner", "--job_endpoint=h:1", "--environment_type=DOCKER"], False),
        # Another machine has another /tmp.
        (["--runner=FlinkRunner", "--environment_type=DOCKER", "--temp_location=/tmp"], False),
        (["--runner=FlinkRunner", "--environment_type=DOCKER", "--temp_location=memkeys://bucket/tmp"], True),
    ],
)
def test_default_directory_is_one_that_all_workers_see(options, expected):
    rows = beam.Pipeline(options=PipelineOptions(options)) | beam.Create(ROWS)
    defaults = {argument.name: argument.default for argument in RUN_TF_SCRIPT}
    given = check_run_arguments(
        defaults | {"main_script_file": script("spooled.py"), "entry": "sizes", "output_schema": SIZES}
    )
    assert (plan_spool(given, "dataset", rows, "label").directory is not None) is expected
