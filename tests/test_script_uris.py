"""Paths and URIs: their parts, the checks while the pipeline is built, and the file's way to a worker."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError
from beam_tfscript.files import staging, uris
from beam_tfscript.files.artifacts import attach_files, runs_here
from beam_tfscript.files.staging import collect_file, limit_embedded, stage_files

HASH = hashlib.sha256(b"content").hexdigest()
LARGE = b"large" * 300_000


@pytest.mark.parametrize(
    "uri, name",
    [
        ("/a/b.txt", "b.txt"),
        ("a/b#1?.txt", "b#1?.txt"),
        ("file:///a/b.txt", "b.txt"),
        ("https://h/a/b%20c.txt?sig=1", "b c.txt"),
        ("oss://bucket/a/b.txt?host=h&access_key_id=i/d", "b.txt"),
        ("res://package/a/b.txt", "b.txt"),
        ("hdfs://n:9870/a/b/", "b"),
    ],
)
def test_base_name_is_the_files_own(uri, name):
    assert uris.base_name(uri) == name


@pytest.mark.parametrize(
    "uri",
    ["https://h", "https://h/a/..", "s3://bucket/a/..", "s3://bucket", "s3://b/a\\b", "s3://b/a\x1bb", "res://tests/.",
     "hdfs://n/a/./", "file:///tmp/..", "..", ".", "/", f"https://h/..#sha256={HASH}"],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_wherever_it_comes_from(uri):
    with pytest.raises(ArgumentError, match="user_files: .*(which is not allowed|must be res://)"):
        collect_file("user_files", uri)


def test_what_is_no_uri_says_so():
    with pytest.raises(ArgumentError, match=r"user_files: 'https://\*\*\*' is not a valid URI"):
        collect_file("user_files", "https://[me:swordfish/a")


def test_a_hash_behind_the_uri_is_no_secret_and_not_part_of_it():
    assert uris.split_sha256("user_files", f"https://h/a#sha256={HASH.upper()}") == ("https://h/a", HASH)
    assert uris.mask_uri(f"https://h/a#sha256={HASH}") == f"https://h/a#sha256={HASH}"
    with pytest.raises(ArgumentError, match="64 hexadecimal digits"):
        uris.split_sha256("user_files", "https://h/a#sha256=abc")


def test_keys_with_plus_and_slash_are_read_as_they_are():
    assert uris.parameters_of("oss://b/k?access_key_secret=a+b/c%3D=&host=h") == {
        "access_key_secret": "a+b/c==",
        "host": "h",
    }


def test_scrub_takes_secrets_out_of_what_a_library_says():
    uri = "https://me:swordfish@h/a?sig=hush%2Fhush&version=3"
    said = (
        "GET /a?sig=hush%2Fhush failed for swordfish: hush/hush; see https://other/x?token=redirected and /y?z=signed"
    )
    found = uris.scrub(said, uri)
    assert found == "GET /a?*** failed for ***: ***; see https://other/x?*** and /y?***"


@pytest.mark.parametrize(
    "uri, message",
    [
        ("no/such.txt", "there is no file 'no/such.txt'"),
        ("res://tests/no_such.txt", "there is no 'no_such.txt' in the package 'tests'"),
        ("res://no_such_package/a.txt", "there is no package 'no_such_package'"),
        ("res://tests/../setup.py", "inside the package"),
        ("res://tests", "must be res://package/path"),
        ("gopher://h/a", "no file system is known"),
    ],
)
def test_rejects_what_is_not_there_while_the_pipeline_is_built(uri, message):
    with pytest.raises(ArgumentError, match=message):
        collect_file("user_files", uri)


def test_names_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r"beam-tfscript\[oss\]"):
        collect_file("user_files", "oss://b/k?host=h")


def test_package_data_is_staged_without_importing_its_package(tmp_path, monkeypatch):
    package = tmp_path / "lively_package"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "data" / "words.txt").write_text("found")
    monkeypatch.syspath_prepend(tmp_path)
    file = collect_file("user_files", "res://lively_package/data/words.txt")
    stage_files([file], str(tmp_path / "staged"))
    assert (tmp_path / "staged" / "words.txt").read_text() == "found"
    assert "lively_package" not in sys.modules


def test_local_file_must_have_the_hash_that_is_asked_for(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"content")
    assert collect_file("user_files", f"file://{tmp_path}/a.txt#sha256={HASH}").sha256 == HASH
    with pytest.raises(ArgumentError, match=f"{HASH}, .*{'0' * 64}"):
        collect_file("user_files", f"{tmp_path}/a.txt#sha256={'0' * 64}")


def test_large_file_is_staged_by_its_path(tmp_path):
    (tmp_path / "a.bin").write_bytes(LARGE)
    (file,) = limit_embedded([collect_file("user_files", str(tmp_path / "a.bin"))])
    assert file.content is None
    stage_files([file], str(tmp_path / "staged"))
    assert (tmp_path / "staged" / "a.bin").read_bytes() == LARGE
    assert not os.path.islink(tmp_path / "staged" / "a.bin")


def test_large_file_that_changed_is_not_taken_for_the_one_that_was_given(tmp_path):
    (tmp_path / "a.bin").write_bytes(LARGE)
    file = collect_file("user_files", str(tmp_path / "a.bin"))
    (tmp_path / "a.bin").write_bytes(LARGE[1:])
    with pytest.raises(ScriptEnvironmentError, match="has changed since the pipeline was built"):
        stage_files([file], str(tmp_path / "staged"))


def test_worker_that_cannot_have_a_large_file_says_what_to_do(tmp_path):
    (tmp_path / "a.bin").write_bytes(LARGE)
    file = collect_file("user_files", str(tmp_path / "a.bin"))
    (tmp_path / "a.bin").unlink()
    with pytest.raises(ScriptEnvironmentError, match="neither among the job's artifacts.*gs://"):
        stage_files([file], str(tmp_path / "staged"))


@pytest.mark.parametrize("is_directory", [False, True], ids=["file", "directory"])
def test_large_file_reaches_a_remote_worker_as_an_artifact(is_directory, tmp_path, monkeypatch):
    source = tmp_path / "given"
    if is_directory:
        (source / "inner").mkdir(parents=True)
        (source / "inner" / "a.bin").write_bytes(LARGE)
    else:
        source.write_bytes(LARGE)
    pipeline = beam.Pipeline(runner="PortableRunner", options=PipelineOptions(["--files_to_stage=/own", "--streaming"]))
    (file,) = attach_files([collect_file("user_files", str(source))], pipeline)
    own, artifact = pipeline.options.view_as(SetupOptions).files_to_stage
    assert own == "/own"
    assert os.path.basename(artifact) == file.artifact
    # What the boot program of a container does with it on a worker, where the submitter's paths mean nothing.
    (tmp_path / "worker" / "staged").mkdir(parents=True)
    os.link(os.path.realpath(artifact), tmp_path / "worker" / "staged" / file.artifact)
    os.rename(source, tmp_path / "elsewhere")
    monkeypatch.setenv("SEMI_PERSISTENT_DIRECTORY", str(tmp_path / "worker"))
    stage_files([file], str(tmp_path / "target"))
    staged = tmp_path / "target" / "given"
    assert (staged / "inner" / "a.bin" if is_directory else staged).read_bytes() == LARGE


def test_two_large_files_of_one_name_are_two_artifacts(tmp_path):
    files = []
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(LARGE + name.encode())
        files.append(collect_file("user_files", str(tmp_path / name / "model.bin")))
    pipeline = beam.Pipeline(runner="PortableRunner")
    attach_files(files, pipeline)
    attach_files(files, pipeline)
    assert len(pipeline.options.view_as(SetupOptions).files_to_stage) == 2


@pytest.mark.parametrize(
    "options, here",
    [
        (["--runner=DirectRunner"], True),
        (["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"], True),
        (["--runner=PrismRunner"], True),
        (["--runner=PortableRunner", "--environment_type=LOOPBACK"], True),
        (["--runner=PortableRunner", "--environment_type=DOCKER"], False),
        (["--runner=PortableRunner"], False),
        (["--runner=PrismRunner", "--environment_type=DOCKER"], False),
    ],
)
def test_knows_whether_workers_are_on_this_machine(options, here):
    assert runs_here(beam.Pipeline(options=PipelineOptions(options))) is here


def test_nothing_is_staged_where_workers_are_on_this_machine(tmp_path):
    (tmp_path / "a.bin").write_bytes(LARGE)
    pipeline = beam.Pipeline(runner="DirectRunner")
    (file,) = attach_files([collect_file("user_files", str(tmp_path / "a.bin"))], pipeline)
    assert file.artifact is None
    assert not pipeline.options.view_as(SetupOptions).files_to_stage


def test_server_that_cannot_be_reached_from_here_doesnt_fail_the_build():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    address = f"127.0.0.1:{port}"
    for uri in (f"http://{address}/a.txt", f"hdfs://{address}/a.txt", f"s3://b/a.txt?endpoint=http%3A%2F%2F{address}"):
        file = collect_file("user_files", uri)
        assert (file.name, file.content, file.path) == ("a.txt", None, None)


def test_secrets_in_a_uri_that_cannot_be_fetched_here_are_refused(monkeypatch):
    monkeypatch.setattr(staging, "fetch", lambda uri, path: _refuse())
    with pytest.raises(ArgumentError, match="set them in the workers' environment") as caught:
        collect_file("user_files", "https://me:swordfish@h/a.txt")
    assert "swordfish" not in str(caught.value)
    assert caught.value.__cause__ is None


def _refuse():
    raise ScriptEnvironmentError("cannot be fetched: no connection")


def test_long_texts_are_masked_in_no_time():
    for text in ("x" * (1 << 20), "x" * (1 << 20) + "://", "a." * (1 << 19) + "://me:secret@host/file"):
        begin = time.process_time()
        assert "secret" not in uris.mask_uris(text)
        assert time.process_time() - begin < 5
