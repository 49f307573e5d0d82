"""Files are fetched completely from real servers, in spite of faults, and secrets are not shown."""

from __future__ import annotations

import base64
import bz2
import contextlib
import hashlib
import logging
import pickle
import re
import socket
import tracemalloc
import zlib

import apache_beam as beam
import boto3
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from fsspec.implementations.webhdfs import WebHDFS

from beam_tfscript import RunTFScript
from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError, ScriptLoadError
from beam_tfscript.files import machine_cache as env_cache
from beam_tfscript.files.fetch import Timeouts, fetch
from beam_tfscript.files.staging import collect_file, stage_files
from beam_tfscript.python_env.environment import find_interpreter
from beam_tfscript.python_env.python_env import check_python_env
from tests.engines.server import started
from tests.engines.tools import ToolMissing
from tests.environments import pack_wrapper
from tests.running import script
from tests.servers import namenode, object_store
from tests.servers.proxy import proxy
from tests.servers.web import CONTENT, web_server

QUICK = Timeouts(connect_s=2.0, stall_s=0.5, total_s=20.0, attempts=3, backoff_s=0.01)
HASH = hashlib.sha256(CONTENT).hexdigest()
KEY_ID, KEY_SECRET = "AKIDswordfish", "hush+hush/hush=="
SCRIPT = b"def main(config):\n    for batch in config.batches(10):\n        config.write_batch(x=batch['x'])\n"


@pytest.fixture
def web():
    with web_server() as server:
        yield server


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The address of an S3 server with a bucket of files."""
    with started(object_store, tmp_path_factory.mktemp("store")) as address:
        client = boto3.client(
            "s3", endpoint_url=f"http://{address}", region_name="us-east-1",
            aws_access_key_id=KEY_ID, aws_secret_access_key=KEY_SECRET,
        )  # fmt: skip
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="a/file.bin", Body=CONTENT)
        client.put_object(Bucket="bucket", Key="a/more.bin", Body=b"more")
        client.put_object(Bucket="bucket", Key="a/score.py", Body=SCRIPT)
        with open(pack_wrapper(tmp_path_factory.mktemp("env") / "env.tar.gz"), "rb") as env:
            client.put_object(Bucket="bucket", Key="a/env.tar.gz", Body=env)
        client.close()
        yield address


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory):
    """The web address and the RPC port of a namenode with a file."""
    try:
        namenode.build()
    except ToolMissing as missing:
        pytest.skip(str(missing))
    directory = tmp_path_factory.mktemp("hdfs")
    with started(namenode, directory) as address:
        host, port = address.split(":")
        files = WebHDFS(host, port=int(port), user="me", skip_instance_cache=True)
        for name, content in (("file.bin", CONTENT), ("other.bin", b"other")):
            with files.open(f"/a/{name}", "wb") as file:
                file.write(content)
        files.session.close()
        log = (directory / "server.log").read_text()
        yield address, log.partition("RPC is at port ")[2].split()[0]


def fetched(uri, tmp_path, **kwargs):
    """The content behind a URI."""
    fetch(uri, str(tmp_path / "target"), **{"timeouts": QUICK, **kwargs})
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    return (tmp_path / "target").read_bytes()


def refused(uri, tmp_path, **kwargs):
    """Return the error of fetching a URI, after a check that no file is left."""
    with pytest.raises(ScriptEnvironmentError) as caught:
        fetch(uri, str(tmp_path / "target"), **{"timeouts": QUICK, **kwargs})
    assert not list(tmp_path.iterdir())
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize("way", ["plain", "redirect", "busy"])
def test_file_comes_from_a_web_server(way, web, tmp_path):
    assert fetched(f"{web.url}/{way}/a.bin", tmp_path) == CONTENT


@pytest.mark.parametrize("way", ["cut", "stall"])
def test_goes_on_where_it_was_cut_off(way, web, tmp_path):
    assert fetched(f"{web.url}/{way}/a.bin", tmp_path) == CONTENT
    first, second, *_ = web.ranges()
    assert (first, second) == (None, f"bytes={len(CONTENT) // 2}-")


def test_begins_again_where_the_server_cannot_go_on(web, tmp_path):
    assert fetched(f"{web.url}/cut_whole/a.bin", tmp_path) == CONTENT
    assert len(web.ranges()) == 3


def test_never_joins_two_versions_of_a_file(web, tmp_path):
    web.tag = None
    assert fetched(f"{web.url}/cut/a.bin", tmp_path) == CONTENT
    assert set(web.ranges()) == {None}


def test_gives_up_when_nothing_comes(web, tmp_path):
    message = refused(f"{web.url}/cut_always/a.bin", tmp_path)
    assert f"ended {len(CONTENT)} bytes before" in message
    assert len(web.ranges()) == QUICK.attempts


def test_doesnt_wait_for_a_server_that_sends_a_byte_now_and_then(web, tmp_path):
    timeouts = Timeouts(connect_s=2.0, stall_s=2.0, total_s=1.0, attempts=3, backoff_s=0.01)
    assert "not complete after 1 s" in refused(f"{web.url}/trickle/a.bin", tmp_path, timeouts=timeouts)


@pytest.mark.parametrize(
    "path, asked, message",
    [
        ("status/404", 1, "404"),
        ("status/410", 1, "410"),
        ("status/403", 1, "403"),
        ("status/500", 3, "500"),
        ("loop", 31, "TooManyRedirects"),
    ],
)
def test_tries_again_only_what_may_pass(path, asked, message, web, tmp_path):
    assert message in refused(f"{web.url}/{path}", tmp_path)
    assert len(web.asked) == asked


def test_content_must_have_its_hash(web, tmp_path):
    assert fetched(f"{web.url}/plain/a.bin#sha256={HASH}", tmp_path) == CONTENT
    (tmp_path / "target").unlink()
    assert HASH in refused(f"{web.url}/plain/a.bin#sha256={'0' * 64}", tmp_path)


def test_no_file_is_ever_whole_in_memory(web, tmp_path):
    web.content = bytes(64 << 20)
    tracemalloc.start()
    try:
        fetch(f"{web.url}/plain/a.bin", str(tmp_path / "target"), timeouts=QUICK)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 16 << 20


@pytest.mark.builds
def test_missing_file_is_an_error_while_the_pipeline_is_built(web, store, hdfs):
    for uri in (
        f"{web.url}/status/404",
        f"s3://bucket/none?endpoint=http%3A%2F%2F{store}&access_key_id=a&access_key_secret=b",
        f"hdfs://{hdfs[0]}/none",
    ):
        with pytest.raises(ArgumentError, match="user_files: .*(there is no|cannot be fetched)"):
            collect_file("user_files", uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a/file.bin?endpoint=http%3A%2F%2F{store}&access_key_id={id}&secret_access_key={secret}",
        "oss://bucket/a/file.bin?host=http://{store}&access_key_id={id}&access_key_secret={secret}",
    ],
    ids=["s3", "oss"],
)
def test_object_comes_from_a_store(uri, store, tmp_path):
    assert fetched(uri.format(store=store, id=KEY_ID, secret=KEY_SECRET), tmp_path) == CONTENT


@pytest.mark.parametrize(
    "uri, variables",
    [
        ("s3://bucket/a/file.bin", ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        ("oss://bucket/a/file.bin", ("OSS_ENDPOINT", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET")),
    ],
    ids=["s3", "oss"],
)
def test_keys_are_taken_from_the_environment(uri, variables, store, tmp_path, monkeypatch):
    for name, value in zip(variables, (f"http://{store}", KEY_ID, KEY_SECRET)):
        monkeypatch.setenv(name, value)
    assert fetched(uri, tmp_path) == CONTENT


@pytest.mark.parametrize("is_stalling", [False, True], ids=["cut", "stalled"])
@pytest.mark.parametrize("place", ["s3://bucket/a/file.bin?endpoint=", "oss://bucket/a/file.bin?host="])
def test_object_is_read_on_where_its_connection_was_cut(place, is_stalling, store, tmp_path):
    host, port = store.split(":")
    with proxy((host, int(port)), cuts=[400_000, 300_000], is_stalling=is_stalling) as between:
        uri = f"{place}http%3A%2F%2F127.0.0.1:{between.port}&access_key_id=a&access_key_secret=b"
        assert fetched(uri, tmp_path) == CONTENT
        assert between.connections == 3


@pytest.mark.builds
@pytest.mark.parametrize("scheme", ["s3", "oss", "hdfs"])
def test_content_must_have_its_hash_wherever_it_is_from(scheme, store, hdfs, tmp_path):
    uri = {
        "s3": f"s3://bucket/a/file.bin?endpoint=http://{store}&access_key_id=a&access_key_secret=b",
        "oss": f"oss://bucket/a/file.bin?host=http://{store}&access_key_id=a&access_key_secret=b",
        "hdfs": f"hdfs://{hdfs[0]}/a/file.bin",
    }[scheme]
    assert HASH in refused(f"{uri}#sha256={'0' * 64}", tmp_path)
    assert fetched(f"{uri}#sha256={HASH}", tmp_path) == CONTENT


def test_oss_must_say_where_and_with_what(tmp_path, monkeypatch):
    assert "host=oss-" in refused("oss://bucket/key", tmp_path)
    assert "without an access_key_secret" in refused("oss://bucket/key?host=h&access_key_id=a", tmp_path)


@pytest.mark.builds
def test_file_comes_from_a_namenode(hdfs, tmp_path):
    assert fetched(f"hdfs://{hdfs[0]}/a/file.bin", tmp_path) == CONTENT


@pytest.mark.builds
def test_port_of_hadoops_other_protocol_is_told_apart(hdfs, tmp_path):
    host, port = hdfs[0].split(":")
    assert "hdfs://namenode:9870" in refused(f"hdfs://{host}:{hdfs[1]}/a/file.bin", tmp_path)
    assert fetched(f"hdfs://{host}:{hdfs[1]}/a/file.bin?http_port={port}", tmp_path) == CONTENT


@pytest.mark.builds
def test_directory_of_hdfs_is_refused(hdfs, tmp_path):
    assert "a directory" in refused(f"hdfs://{hdfs[0]}/a", tmp_path)


@pytest.mark.builds
@pytest.mark.parametrize("is_stalling", [False, True], ids=["cut", "stalled"])
def test_hdfs_is_read_on_where_its_connection_was_cut(is_stalling, hdfs, tmp_path):
    host, port = hdfs[0].split(":")
    with proxy((host, int(port)), cuts=[100], is_stalling=is_stalling) as between:
        assert fetched(f"hdfs://127.0.0.1:{between.port}/a/file.bin", tmp_path) == CONTENT
        assert between.connections >= 2


@pytest.mark.parametrize("query", ["", "?sig=swordfish"], ids=["plain", "signed"])
@pytest.mark.parametrize(
    "name", ["..%2f..%2fevil.txt", "%2Fnowhere%2Fevil.txt", "..%5cevil.txt", "%2e%2e", "a%00b", "a%0ab"]
)
def test_no_name_in_a_uri_leads_out_of_the_runs_directory(name, query, web, tmp_path):
    staged = tmp_path / "harness" / "script" / "files"
    staged.parent.mkdir(parents=True)
    uri = f"{web.url}/plain/{name}{query}"
    with pytest.raises(ArgumentError, match="user_files: 'http://.*which is not allowed") as caught:
        stage_files(RunTFScript(script("echo.py"), "x float", [uri])._options.files, str(staged))
    assert name in str(caught.value) and "swordfish" not in str(caught.value)
    assert [str(path) for path in tmp_path.rglob("*")] == [str(staged.parents[1]), str(staged.parent)]
    with pytest.raises(ArgumentError, match="python_env: 'http://.*which is not allowed"):
        check_python_env(f"{web.url}/plain/{name}.tar.gz%2f..{query}")


def test_what_a_server_answers_names_no_file(web, tmp_path):
    web.location = "/plain/..%2f..%2fevil.txt"
    stage_files([collect_file("user_files", f"{web.url}/redirect/a.bin")], str(tmp_path / "harness" / "staged"))
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a.bin"}


def test_machine_fetches_a_file_once(web, tmp_path):
    file = collect_file("user_files", f"{web.url}/plain/a.bin")
    for harness in ("one", "other"):
        stage_files([file], str(tmp_path / harness))
        assert (tmp_path / harness / "a.bin").read_bytes() == CONTENT
    assert len(web.ranges()) == 1
    web.tag, web.content = '"two"', CONTENT[1:]
    stage_files([file], str(tmp_path / "third"))
    assert (tmp_path / "third" / "a.bin").read_bytes() == CONTENT[1:]


@pytest.mark.parametrize("known", ["", f"#sha256={HASH}"], ids=["unknown hash", "known hash"])
@pytest.mark.parametrize("fault", ["gone", "short"])
def test_file_that_was_cleaned_out_of_the_cache_is_fetched_again(fault, known, web, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("BEAM_TFSCRIPT_CACHE", str(tmp_path / "cache"))
    file = collect_file("user_files", f"{web.url}/plain/a.bin{known}")
    stage_files([file], str(tmp_path / "one"))
    (content,) = (tmp_path / "cache").glob("file-*/content")
    content.unlink()
    if fault == "short":
        content.write_bytes(CONTENT[:10])
    stage_files([file], str(tmp_path / "two"))
    stage_files([file], str(tmp_path / "three"))
    for name in ("one", "two", "three"):
        assert (tmp_path / name / "a.bin").read_bytes() == CONTENT
    assert len(web.ranges()) == 2 and "is damaged, and is built again: its content" in caplog.text


def test_file_of_known_hash_isnt_asked_for_again(web, tmp_path):
    uri = f"{web.url}/plain/a.bin#sha256={HASH}"
    stage_files([collect_file("user_files", uri)], str(tmp_path / "one"))
    before = len(web.asked)
    stage_files([collect_file("user_files", uri)], str(tmp_path / "two"))
    assert len(web.ranges()) == 1
    assert len(web.asked) == before + 1  # whether it is there


def test_script_behind_a_signed_address_is_checked_while_the_pipeline_is_built(web):
    web.content = b"def main(config:\n"
    with pytest.raises(ScriptLoadError, match="line 1"):
        RunTFScript(f"{web.url}/plain/score.py?sig=swordfish", "x float")


SECRETS = [KEY_ID, KEY_SECRET, "swordfish", base64.b64encode(KEY_SECRET.encode()).decode(), "hush%2Bhush"]


def deep(data):
    """The bytes, and what is packed into them: Beam compresses what a DoFn holds, and encodes that as text."""
    yield data
    for word in re.findall(rb"[A-Za-z0-9+/]{64,}={0,2}", data):
        # Where the text begins is not known: a length that stands before it may look like a part of it.
        for start in range(8):
            packed = base64.b64decode(word[start : start + (len(word) - start) // 4 * 4])
            for unpack in (zlib.decompress, bz2.decompress):
                with contextlib.suppress(zlib.error, OSError, ValueError):
                    yield unpack(packed)


@pytest.mark.builds
@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
def test_secrets_are_nowhere_but_in_the_request(is_large, web, store, hdfs, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "botocore", "boto3"):
        caplog.set_level(logging.DEBUG, name)
    web.content = b"word" * (600_000 if is_large else 6)
    files = [
        web.url.replace("//", "//me:swordfish@") + "/plain/words.txt?sig=swordfish",
        f"oss://bucket/a/file.bin?host=http://{store}&access_key_id={KEY_ID}&access_key_secret={KEY_SECRET}",
        f"s3://bucket/a/more.bin?endpoint=http://{store}&access_key_id={KEY_ID}&secret_access_key={KEY_SECRET}",
        f"hdfs://me:swordfish@{hdfs[0]}/a/other.bin?sig=swordfish",
    ]
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=PortableRunner", "--environment_type=DOCKER"]))
    transform = RunTFScript(
        f"oss://bucket/a/score.py?host=http://{store}&access_key_id={KEY_ID}&access_key_secret={KEY_SECRET}",
        "x float",
        files,
        input_schema="x float",
        env={"CONTROL": "found-when-unpacked"},
        python_env=f"oss://bucket/a/env.tar.gz?host=http://{store}&access_key_id={KEY_ID}&access_key_secret={KEY_SECRET}",
    )
    _ = pipeline | beam.Create([{"x": 1.0}]) | transform | beam.Map(str)
    graph = pipeline.to_runner_api()
    packed = list(deep(graph.SerializeToString()))
    assert b"found-when-unpacked" not in packed[0]
    assert any(b"found-when-unpacked" in data for data in packed), "what is packed was not looked into"
    shown = [repr(transform), repr(transform.__dict__), str(transform.display_data()), caplog.text, *capfd.readouterr()]
    everything = [*packed, pickle.dumps(transform), *(text.encode() for text in shown)]
    for secret in SECRETS:
        assert not any(secret.encode() in data for data in everything), secret
    (tmp_path / "work").mkdir()
    stage_files(transform._options.files, str(tmp_path / "work" / "staged"))
    assert (tmp_path / "work" / "staged" / "words.txt").read_bytes() == web.content
    assert (tmp_path / "work" / "staged" / "more.bin").read_bytes() == b"more"
    assert (tmp_path / "work" / "staged" / "other.bin").read_bytes() == b"other"
    assert len(web.ranges()) == 1
    assert find_interpreter(transform._options.python_env).startswith(env_cache.cache_directory())


@pytest.mark.builds
def test_secrets_are_in_no_error(web, store, hdfs, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for uri in (
        f"{web.url}/status/404/a?sig=swordfish",
        f"{web.url}/status/503/a?sig=swordfish",
        f"{web.url}/loop/a?sig=swordfish",
        f"http://me:swordfish@127.0.0.1:{port}/a",
        f"http://127.0.0.1:{port}/a?sig=swordfish",
        f"oss://bucket/none?host=http://{store}&access_key_id={KEY_ID}&access_key_secret={KEY_SECRET}",
        f"oss://bucket/none?host=http://127.0.0.1:{port}&access_key_id={KEY_ID}&access_key_secret={KEY_SECRET}",
        f"oss://bucket/?host=h&access_key_id={KEY_ID}&access_key_secret={KEY_SECRET}",
        f"s3://bucket/none?endpoint=http://{store}&access_key_id={KEY_ID}&secret_access_key={KEY_SECRET}",
        f"s3://bucket/a?endpoint=http://127.0.0.1:{port}&access_key_id={KEY_ID}&secret_access_key={KEY_SECRET}",
        f"hdfs://me:swordfish@{hdfs[0]}/none?sig=swordfish",
        f"hdfs://me:swordfish@127.0.0.1:{port}/a?sig=swordfish",
        f"{web.url}/plain/a?sig=swordfish#sha256={'0' * 64}",
        f"gopher://h/?access_key_secret={KEY_SECRET}",
    ):
        message = refused(uri, tmp_path)
        for secret in SECRETS:
            assert secret not in message and secret not in caplog.text


def test_cache_is_where_it_is_said_to_be(web, tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_TFSCRIPT_CACHE", str(tmp_path / "cache"))
    stage_files([collect_file("user_files", f"{web.url}/plain/a.bin")], str(tmp_path / "staged"))
    assert env_cache.cache_directory() == str(tmp_path / "cache")
    assert list((tmp_path / "cache").glob("file-*/content"))
