"""The script's files are copies that no script can change, the same for every way to the worker."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import zipfile

import apache_beam as beam
import pytest

from beam_tfscript import RunTFScript
from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.artifacts import attach_files
from beam_tfscript.files.staging import collect_file, stage_files
from beam_tfscript.runtime.transport import scratch
from tests.running import script
from tests.scripts.user_files import show
from tests.unprivileged import run_unprivileged

LARGE = b"large" * 300_000
SCHEMA = "rows bigint, shown string, changed string"
ROWS = [{"x": float(number)} for number in range(10)]


def make_folder(parent: pathlib.Path, content: bytes) -> pathlib.Path:
    """Directory with links inside and outside, a program, an old file, and an empty directory."""
    folder, outside = parent / "folder", parent / "outside"
    for directory in (folder / "inner" / "empty", outside / "deep"):
        directory.mkdir(parents=True)
    (folder / "a.bin").write_bytes(content)
    (folder / "inner" / "tool.sh").write_text("#!/bin/sh\n")
    (folder / "inner" / "tool.sh").chmod(0o700)
    (folder / "inner" / "old.txt").write_text("old")
    os.utime(folder / "inner" / "old.txt", (0, 0))
    (outside / "deep" / "b.bin").write_bytes(b"outside")
    (folder / "inside.bin").symlink_to("a.bin")
    (folder / "file.bin").symlink_to(outside / "deep" / "b.bin")
    (folder / "other").symlink_to("../outside")
    (folder / "again").symlink_to("inner")
    return folder


def tree(content: bytes) -> dict[str, str]:
    """Return the output of `show` for a copy of such a directory."""
    size = len(content)
    inner = {"": "directory", "/empty": "directory", "/tool.sh": "filex10", "/old.txt": "file3"}
    return {
        "a.bin": f"file{size}", "inside.bin": f"file{size}", "file.bin": "file7",
        "other": "directory", "other/deep": "directory", "other/deep/b.bin": "file7",
        **{f"{name}{more}": kind for name in ("inner", "again") for more, kind in inner.items()},
    }  # fmt: skip


@pytest.mark.parametrize("way", ["graph", "artifact", "path"])
def test_a_directory_is_the_same_tree_whichever_way_it_comes(way, tmp_path, monkeypatch):
    content = b"small" if way == "graph" else LARGE
    given = make_folder(tmp_path, content)
    file = collect_file("user_files", str(given))
    assert (file.content is not None) == (way == "graph")
    if way == "artifact":
        (file,) = attach_files([file], beam.Pipeline(runner="PortableRunner"))
        shutil.rmtree(given)
    stage_files([file], str(tmp_path / "staged"))
    assert show(tmp_path / "staged" / "folder") == tree(content)
    assert (tmp_path / "staged" / "folder" / "inside.bin").read_bytes() == content
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "staged").rglob("*")}
    assert modes == {0o444, 0o555}


@pytest.mark.parametrize("size", [10, len(LARGE)], ids=["small", "large"])
@pytest.mark.parametrize("fault", ["nowhere", "ring", "ring of two", "pipe"])
def test_a_directory_that_cannot_be_copied_is_refused_while_the_pipeline_is_built(fault, size, tmp_path):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.bin").write_bytes(LARGE[:size])
    odd = folder / "inner" / "odd"
    if fault == "nowhere":
        odd.symlink_to("no-such-file")
    elif fault == "ring":
        odd.symlink_to("..")
    elif fault == "ring of two":
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "back").symlink_to(folder / "inner")
        odd.symlink_to(tmp_path / "other")
    else:
        os.mkfifo(odd)
    said = {"nowhere": "leads nowhere", "pipe": "neither a file nor a directory"}.get(
        fault, "a directory that it is in"
    )
    with pytest.raises(ArgumentError, match=f"user_files: the directory .*{said}.*inner/odd"):
        collect_file("user_files", str(folder))


def test_a_files_name_is_never_another_ones_zip(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("in the folder")
    (tmp_path / "folder.zip-of").write_text("beside it")
    files = [collect_file("user_files", str(tmp_path / name)) for name in ("folder.zip-of", "folder")]
    stage_files(files, str(tmp_path / "staged"))
    assert (tmp_path / "staged" / "folder.zip-of").read_text() == "beside it"
    assert (tmp_path / "staged" / "folder" / "a.txt").read_text() == "in the folder"


@pytest.mark.tensorflow
def test_a_script_that_writes_to_a_large_directory_writes_to_a_copy(in_memory, tmp_path):
    given = make_folder(tmp_path, LARGE)
    transform = RunTFScript(script("user_files.py"), SCHEMA, [str(given)], input_schema="x float")
    (row,) = in_memory.run(transform, ROWS)
    shown = {name[len("folder/") :]: kind for name, kind in json.loads(row["shown"]).items() if "/" in name}
    assert shown == tree(LARGE)
    assert (given / "a.bin").read_bytes() == LARGE
    assert (tmp_path / "outside" / "deep" / "b.bin").read_bytes() == b"outside"
    assert not list(tmp_path.rglob("added")) and not list(tmp_path.rglob("*.moved"))


# Runs a script that writes wherever it can, twice, on workers that are not root.
PIPELINE = """
import json, os, pathlib, sys, tempfile, time
from beam_tfscript import RunTFScript
from tests.running import Runner

os.environ["BEAM_TFSCRIPT_CACHE"] = sys.argv[1] + "/cache"
tempfile.tempdir = sys.argv[1] + "/scratch"
os.mkdir(tempfile.tempdir)
transform = RunTFScript(
    sys.argv[2], "rows bigint, shown string, changed string", sys.argv[3:], input_schema="x float", num_workers=2,
    user_params={"copy": True},
)
rows = Runner("in_memory", pathlib.Path(sys.argv[1])).run(transform, [{"x": float(i)} for i in range(10)])
end = time.monotonic() + 30  # the harness keeps it for a while
while os.listdir(tempfile.tempdir) and time.monotonic() < end:
    time.sleep(0.1)
found = {
    "changed": sum((json.loads(row["changed"]) for row in rows), []),
    "shown": json.loads(rows[0]["shown"]),
    "runs": len(rows),
    "left": os.listdir(tempfile.tempdir),
}
print("found", json.dumps(found))
"""


def test_no_script_can_change_what_its_runs_share_and_all_of_it_goes(tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "large.bin").write_bytes(LARGE)
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("packed/inner/module.py", "VALUE = 1\n")
    shutil.move(make_folder(tmp_path / "large", LARGE), tmp_path / "large" / "heavy")
    given = [make_folder(tmp_path, b"small"), tmp_path / "large" / "heavy"]
    given += [tmp_path / name for name in ("words.txt", "large.bin", "lib.zip")]
    printed = run_unprivileged(PIPELINE, str(tmp_path), script("user_files.py"), *map(str, given))
    found = json.loads(printed.partition("found ")[2])
    wanted = {"folder/a.bin", "heavy/a.bin", "words.txt", "large.bin", "lib.zip", "packed/inner/module.py"}
    assert wanted < set(found["shown"])
    assert (found["changed"], found["left"], found["runs"]) == ([], [], 2)


REMOVE = """
import os, sys
from beam_tfscript.runtime.transport import scratch
os.close(scratch.own(sys.argv[1]))
print(scratch.remove_if_abandoned(sys.argv[1]), os.path.exists(sys.argv[1]))
"""


def test_what_a_dead_harness_staged_can_be_removed_by_who_is_not_root(tmp_path):
    folder = make_folder(tmp_path, b"small")
    left = tmp_path / f"{scratch.PREFIX}left"
    left.mkdir()
    stage_files([collect_file("user_files", str(folder))], str(left / "files"))
    (left / "files").chmod(0o555)
    assert run_unprivileged(REMOVE, str(left)).split() == ["True", "False"]


STREAM = """
import os, sys, tempfile, pathlib
import apache_beam as beam
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from beam_tfscript import RunTFScript
from tests.running import Runner

tempfile.tempdir = sys.argv[1] + "/scratch"
os.mkdir(tempfile.tempdir)

def list_runs(row):
    yield {"runs": [name for folder, inner, _ in os.walk(tempfile.tempdir) for name in inner if name == "copied"]}

class Run(beam.PTransform):
    def expand(self, pipeline):
        stream = TestStream()
        for start in range(0, 40, 10):
            rows = [TimestampedValue(beam.Row(x=1.0), start + number) for number in range(3)]
            stream = stream.advance_watermark_to(start).add_elements(rows).advance_processing_time(10)
        rows = pipeline | stream.advance_watermark_to_infinity()
        rows = rows | beam.Map(lambda row: row).with_output_types(beam.Row) | beam.WindowInto(FixedWindows(10))
        transform = RunTFScript(
            sys.argv[2], "rows bigint, shown string, changed string", [sys.argv[3]], input_schema="x float",
            user_params={"copy": True}, feed="stream",
        )
        return rows | transform | beam.ParDo(list_runs)

outputs = Runner("bundle_based", pathlib.Path(sys.argv[1])).outputs(Run(), options=["--streaming"])["good"]
print("found", [len(output.row["runs"]) for output in outputs])
"""


def test_a_runs_directory_goes_with_the_run_whatever_the_script_copied_there(tmp_path):
    folder = make_folder(tmp_path, b"small")
    printed = run_unprivileged(STREAM, str(tmp_path), script("user_files.py"), str(folder))
    found = json.loads(printed.partition("found ")[2])
    assert len(found) == 4 and max(found) <= 2, "those of runs that have ended are still there"
