"""Files on OSS, by Beam's file systems: in a real S3 server of moto's, as OSS has S3's protocol."""

from __future__ import annotations

import gc
import json
import logging
import subprocess
import sys

import apache_beam as beam
import boto3
import pytest
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import SetupOptions

from beam_tfscript import RunTFScript
from beam_tfscript.cli.main import main
from beam_tfscript.errors import ArgumentError
from beam_tfscript.files import oss_file_system
from beam_tfscript.models.model_store import publish
from tests.engines.server import started
from tests.running import script
from tests.servers import object_store
from tests.servers.proxy import proxy
from tests.servers.web import web_server
from tests.test_cli_check import ECHO
from tests.test_model_store import make_model
from tests.without_tensorflow import blocked

IN_MEMORY = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
KEY_ID, KEY_SECRET = "id-of-oss-7", "secret-of-oss-9"
NAMES = {"service_name": "s3", "region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The address of the server, which has a bucket."""
    with started(object_store, tmp_path_factory.mktemp("store")) as address:
        client = boto3.client(endpoint_url=f"http://{address}", **NAMES)
        client.create_bucket(Bucket="bucket")
        client.close()
        yield address


@pytest.fixture
def oss(store, monkeypatch, request):
    """The root of this test's files, with endpoint and keys in the environment."""
    yield from _environment(store, monkeypatch, request.node.name)


def _environment(address, monkeypatch, name):
    monkeypatch.setenv("OSS_ENDPOINT", f"http://{address}")
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", KEY_SECRET)
    yield f"oss://bucket/{name.replace('[', '-').rstrip(']')}"
    oss_file_system._connect.cache_clear()
    gc.collect()


def put(path, content, **arguments):
    """Write a file."""
    with FileSystems.create(path, **arguments) as file:
        file.write(content)


def get(path, **arguments):
    """Read a file."""
    with FileSystems.open(path, **arguments) as file:
        return file.read()


def names(pattern):
    """Return the files that a pattern matches."""
    return sorted(metadata.path for metadata in FileSystems.match([pattern])[0].metadata_list)


def test_files_are_written_and_read_with_all_that_beam_asks_for(oss, caplog):
    caplog.set_level(logging.DEBUG)
    put(f"{oss}/a/one.txt", b"one")
    put(f"{oss}/a/two.txt", b"two two")
    put(f"{oss}/b/empty.txt", b"")
    put(f"{oss}/b/packed.gz", b"packed" * 1000)
    assert (get(f"{oss}/a/one.txt"), get(f"{oss}/b/empty.txt")) == (b"one", b"")
    assert get(f"{oss}/b/packed.gz") == b"packed" * 1000
    assert get(f"{oss}/b/packed.gz", compression_type=CompressionTypes.UNCOMPRESSED)[:2] == b"\x1f\x8b"
    assert names(f"{oss}/*/*.txt") == [f"{oss}/a/one.txt", f"{oss}/a/two.txt", f"{oss}/b/empty.txt"]
    assert names(f"{oss}/**") == names(f"{oss}/*/*")
    (found,) = FileSystems.match([f"{oss}/a/two.txt"])[0].metadata_list
    assert (found.path, found.size_in_bytes) == (f"{oss}/a/two.txt", 7) and found.last_updated_in_seconds > 1e9
    files = FileSystems.get_filesystem(oss)
    assert files.size(f"{oss}/a/two.txt") == files.metadata(f"{oss}/a/two.txt").size_in_bytes == 7
    assert files.last_updated(f"{oss}/a/two.txt") == found.last_updated_in_seconds
    assert files.checksum(f"{oss}/a/two.txt") != files.checksum(f"{oss}/a/one.txt")
    FileSystems.copy([f"{oss}/a/one.txt"], [f"{oss}/c/copy.txt"])
    FileSystems.rename([f"{oss}/a/one.txt"], [f"{oss}/c/renamed.txt"])
    assert names(f"{oss}/?/*.txt") == [f"{oss}/{name}.txt" for name in ("a/two", "b/empty", "c/copy", "c/renamed")]
    assert get(f"{oss}/c/renamed.txt") == b"one"
    FileSystems.delete([f"{oss}/c/copy.txt", f"{oss}/b/"])
    assert KEY_SECRET not in caplog.text and KEY_ID not in caplog.text
    assert names(f"{oss}/**") == [f"{oss}/a/two.txt", f"{oss}/c/renamed.txt"]
    assert (FileSystems.join("oss://b", "c/", "d"), FileSystems.split("oss://b/c/d")) == (
        "oss://b/c/d",
        ("oss://b/c", "d"),
    )


def test_large_file_is_uploaded_in_parts_and_read_in_ranges(oss, store):
    content = bytes(range(256)) * (13 << 12)
    with FileSystems.create(f"{oss}/large.bin") as file:
        for start in range(0, len(content), 1 << 20):
            file.write(content[start : start + (1 << 20)])
    client = boto3.client(endpoint_url=f"http://{store}", **NAMES)
    tag = client.head_object(Bucket="bucket", Key=oss.removeprefix("oss://bucket/") + "/large.bin")["ETag"]
    client.close()
    assert int(tag.strip('"').rpartition("-")[2]) > 1
    with FileSystems.open(f"{oss}/large.bin") as file:
        file.seek(5_000_003)
        assert file.read(1000) == content[5_000_003:5_001_003]
        file.seek(-7, 2)
        assert file.read() == content[-7:]
        file.seek(0)
        assert file.read() == content


@pytest.mark.parametrize("cuts", [[0], [0, 0], [600_000]], ids=["connection", "connections", "content"])
def test_request_that_breaks_off_is_tried_again(oss, store, monkeypatch, cuts):
    content = bytes(range(256)) * 4096
    put(f"{oss}/a.bin", content)
    host, _, port = store.partition(":")
    with proxy((host, int(port)), cuts=list(cuts)) as server:
        monkeypatch.setenv("OSS_ENDPOINT", f"http://localhost:{server.port}")
        assert get(f"{oss}/a.bin") == content
        put(f"{oss}/b.bin", content)
        oss_file_system._connect.cache_clear()
        gc.collect()
    monkeypatch.setenv("OSS_ENDPOINT", f"http://{store}")
    assert get(f"{oss}/b.bin") == content


def test_missing_files_are_not_there(oss):
    assert not FileSystems.exists(f"{oss}/absent")
    assert names(f"{oss}/absent*") == []
    with pytest.raises(FileNotFoundError, match=f"Not found: {oss}/absent"):
        get(f"{oss}/absent")
    with pytest.raises(BeamIOError, match="Size failed"):
        FileSystems.get_filesystem(oss).size(f"{oss}/absent")
    with pytest.raises(BeamIOError, match="Copy failed"):
        FileSystems.copy([f"{oss}/absent"], [f"{oss}/copy"])
    with pytest.raises(BeamIOError, match="NoSuchBucket|404"):
        put("oss://no-such-bucket/a", b"a")


def test_refused_keys_are_an_error_and_not_shown(monkeypatch, caplog):
    """Moto's server takes any keys, so that a server of the tests refuses them: by the path, `/status/403`."""
    caplog.set_level(logging.DEBUG, logger="beam_tfscript")
    with web_server() as server:
        for _ in _environment(server.url.removeprefix("http://"), monkeypatch, ""):
            for act in (get, FileSystems.exists):
                with pytest.raises(BeamIOError, match="403.*Forbidden") as caught:
                    act("oss://status/403/a")
                assert KEY_SECRET not in str(caught.value)
        assert server.asked
    assert KEY_SECRET not in caplog.text


def test_without_an_endpoint_the_error_names_the_variable(oss, monkeypatch):
    monkeypatch.delenv("OSS_ENDPOINT")
    with pytest.raises(BeamIOError, match="set OSS_ENDPOINT"):
        FileSystems.exists(f"{oss}/a")


def test_without_boto3_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r"pip install 'beam-tfscript\[oss\]'"):
        RunTFScript(script("tables.py"), entry="copy", spool_dir="oss://bucket/spool")


def test_beams_own_sources_and_sinks_take_it(oss, in_memory):
    with beam.Pipeline(runner=IN_MEMORY.partition("=")[2]) as pipeline:
        assert KEY_SECRET.encode() not in pipeline.to_runner_api().SerializeToString()
        lines = pipeline | beam.Create([str(n) for n in range(100)])
        _ = lines | beam.io.WriteToText(f"{oss}/lines", ".txt.gz", num_shards=3)
    assert len(names(f"{oss}/lines-*-of-00003.txt.gz")) == 3
    found = in_memory.run(beam.Map(int), None, before=lambda p: p | beam.io.ReadFromText(f"{oss}/lines*"))
    assert sorted(found) == list(range(100))


def test_workers_load_the_file_system_when_they_start():
    pipeline = beam.Pipeline()
    for label in "AB":
        rows = pipeline | f"Rows {label}" >> beam.Create([{"id": "a"}])
        _ = rows | label >> RunTFScript(script("tables.py"), entry="copy", input_schema="id string", feed="bundles")
    (plugin,) = pipeline.options.view_as(SetupOptions).beam_plugins
    code = f"from apache_beam.io.filesystems import FileSystems as F\nimport {plugin}\nF.get_filesystem('oss://b/k')"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_command_line_reads_and_writes_it(oss, tmp_path, capsys):
    put(f"{oss}/in/rows.csv", b"id,x\na,0.5\nb,1.5\n")
    (tmp_path / "echo.py").write_text(ECHO)
    variables = [f"--env={name}={value}" for name, value in blocked(tmp_path).items()]
    flags = ["run", str(tmp_path / "echo.py"), IN_MEMORY, *variables, "--input", f"{oss}/in/*.csv"]
    assert (
        main([*flags, "--output", f"{oss}/out/rows", "--output-schema", "id string, x double", "--format=jsonl"]) == 0
    )
    (written,) = names(f"{oss}/out/*.jsonl")
    assert [json.loads(line) for line in get(written).splitlines()] == [{"id": "a", "x": 0.5}, {"id": "b", "x": 1.5}]
    assert main([*flags[:-1], f"{oss}/in/absent-*.csv", "--output-schema", "id string", "--output=o"]) == 2
    assert KEY_SECRET not in "".join(capsys.readouterr())


def test_models_are_published_to_it(oss, tmp_path):
    uri, version = publish(make_model(tmp_path / "a"), f"{oss}/digits", token="a")
    assert (uri, version) == (f"{oss}/digits/1", 1)
    assert publish(make_model(tmp_path / "b", "two"), f"{oss}/digits", token="b")[1] == 2
    assert publish(str(tmp_path / "b"), f"{oss}/digits", token="a") == (uri, 1)
    assert f"{oss}/digits/2/saved_model.pb" in names(f"{oss}/digits/**")


def test_rows_are_spooled_in_it(oss, in_memory, tmp_path):
    (tmp_path / "echo.py").write_text(ECHO)
    transform = RunTFScript(
        str(tmp_path / "echo.py"), "id bigint", input_schema="id bigint", transport="files", spool_dir=f"{oss}/spool"
    )
    found = in_memory.run(transform, [{"id": n} for n in range(50)])
    assert sorted(row["id"] for row in found) == list(range(50))
    assert in_memory.metrics["bytes_spooled"] > 0
