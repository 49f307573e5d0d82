"""Archives: all files are unpacked, and nothing is ever written outside the directory."""

from __future__ import annotations

import io
import os
import pathlib
import resource
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.files.archives import strip_suffix, unpack


class Entry(NamedTuple):
    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    mode: int = 0o644


def link(name, target):
    return Entry(name, kind=tarfile.SYMTYPE, target=target)


def hard_link(name, target):
    return Entry(name, kind=tarfile.LNKTYPE, target=target)


def write_tar(path: pathlib.Path, *entries: Entry, mode: str = "w") -> str:
    with tarfile.open(path, mode) as pack:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.size, info.type, info.linkname, info.mode = len(entry.content), entry.kind, entry.target, entry.mode
            info.mtime = 1_500_000_001
            pack.addfile(info, io.BytesIO(entry.content))
    return str(path)


def write_zip(path: pathlib.Path, *entries: Entry) -> str:
    kinds = {tarfile.REGTYPE: stat.S_IFREG, tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK}
    kinds[tarfile.CHRTYPE] = stat.S_IFCHR
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
        for entry in entries:
            info = zipfile.ZipInfo(entry.name)
            info.external_attr = (kinds[entry.kind] | entry.mode) << 16
            pack.writestr(info, entry.target.encode() or entry.content)
    return str(path)


def tree(directory: pathlib.Path) -> dict[str, object]:
    """Return path -> content, link's target, or None for a directory."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        found[name] = os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


TARS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
GOOD = [
    Entry("./", kind=tarfile.DIRTYPE, mode=0o755),
    Entry("bin/", kind=tarfile.DIRTYPE, mode=0o755),
    Entry("bin/run", b"#!/bin/sh", mode=0o755),
    Entry("./data/ü/deep.txt", b"x" * 3_000_000),
    Entry("empty"),
]
GOOD_TREE = {
    "bin": None, "bin/run": b"#!/bin/sh", "data": None, "data/ü": None, "data/ü/deep.txt": b"x" * 3_000_000,
    "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("suffix", [*TARS, ".zip"])
def test_unpacks_every_kind_with_executable_bits(tmp_path, suffix):
    path = tmp_path / f"pack{suffix}"
    archive = write_zip(path, *GOOD) if suffix == ".zip" else write_tar(path, *GOOD, mode=TARS[suffix])
    unpack(archive, str(tmp_path / "out"), name="pack")
    assert tree(tmp_path / "out") == GOOD_TREE
    assert os.access(tmp_path / "out/bin/run", os.X_OK)
    assert not (tmp_path / "out/empty").stat().st_mode & 0o111
    assert strip_suffix(path.name) == "pack"


def test_keeps_the_time_of_files_in_a_tar(tmp_path):
    unpack(write_tar(tmp_path / "a.tar", Entry("a.py")), str(tmp_path / "out"), name="a")
    assert (tmp_path / "out/a.py").stat().st_mtime == 1_500_000_001


def test_unpacks_two_archives_into_one_directory(tmp_path):
    for name in ("one", "two"):
        archive = write_zip(tmp_path / f"{name}.zip", Entry(f"shared/{name}", name.encode()))
        unpack(archive, str(tmp_path / "out"), name=name)
    assert tree(tmp_path / "out") == {"shared": None, "shared/one": b"one", "shared/two": b"two"}


def test_takes_a_tar_that_ends_in_a_zip_for_a_tar(tmp_path):
    inner = pathlib.Path(write_zip(tmp_path / "inner.zip", Entry("hidden"))).read_bytes()
    unpack(write_tar(tmp_path / "a.tar", Entry("inner.zip", inner)), str(tmp_path / "out"), name="a")
    assert list(tree(tmp_path / "out")) == ["inner.zip"]


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_makes_links_that_stay_inside_where_they_are_asked_for(tmp_path, write):
    entries = [
        link("bin/python", "python3"), link("bin/python3", "../lib/real"), Entry("lib/real", b"python", mode=0o755),
        link("here", "."), link("missing", "lib/none"), link("up", "lib/../bin"),
    ]  # fmt: skip
    unpack(write(tmp_path / "env", *entries), str(tmp_path / "out"), name="env", links=True)
    assert (tmp_path / "out/bin/python").read_bytes() == b"python"
    assert (tmp_path / "out/up/python3").read_bytes() == b"python"
    assert os.readlink(tmp_path / "out/bin/python") == "python3"


def test_makes_hard_links_within_the_archive(tmp_path):
    archive = write_tar(tmp_path / "a.tar", Entry("a", b"one"), hard_link("d/b", "./a"))
    unpack(archive, str(tmp_path / "out"), name="a")
    assert (tmp_path / "out/a").samefile(tmp_path / "out/d/b")


def test_says_in_the_log_how_far_a_large_archive_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("beam_tfscript.files.archives._NOTICE_S", -1.0)
    unpack(write_zip(tmp_path / "a.zip", Entry("a"), Entry("b")), str(tmp_path / "out"), name="the pack")
    assert "unpacking the pack: 2 of 2 entries" in caplog.text


FIRST = Entry("first", b"not to be written")
UNSAFE = {
    "parent": [FIRST, Entry("../evil")],
    "deep parent": [FIRST, Entry("a/../../evil")],
    "absolute": [FIRST, Entry("/tmp/evil")],
    "two slashes": [FIRST, Entry("//tmp/evil")],
    "device": [FIRST, Entry("null", kind=tarfile.CHRTYPE)],
    "twice": [FIRST, Entry("first")],
    "file and directory": [FIRST, Entry("first/evil")],
    "directory and file": [Entry("first/evil"), FIRST],
    "the directory itself": [Entry("a/..", b"evil")],
    "link": [FIRST, link("link", "first")],
}
UNSAFE_LINKS = {
    "absolute": [FIRST, link("link", "/etc/passwd")],
    "parent": [FIRST, link("link", "../evil")],
    "deep parent": [FIRST, link("a/b/link", "../../../evil")],
    "back in": [FIRST, link("link", "../out/first")],
    "by way of a link": [FIRST, link("a/b/up", "../.."), link("evil", "a/b/up/../evil")],
    "by way of a later link": [link("evil", "a/b/up/../evil"), link("a/b/up", "../.."), FIRST],
    "ring": [FIRST, link("a", "b"), link("b", "a")],
    "written through": [link("d", "e"), Entry("e/first", b"x"), Entry("d/evil")],
    "written through, in advance": [Entry("d/evil"), link("d", "e"), FIRST],
    "replaced": [link("d", "e"), Entry("d", b"evil")],
    "directory": [link("d", "e"), Entry("d/", kind=tarfile.DIRTYPE)],
}
UNSAFE_TARS = {
    "hard link outside": [FIRST, hard_link("evil", "../secret")],
    "absolute hard link": [FIRST, hard_link("evil", "/etc/passwd")],
    "hard link to a link": [FIRST, link("l", "first"), hard_link("evil", "l")],
    "hard link through a link": [Entry("e/first"), link("d", "e"), hard_link("evil", "d/first")],
    "fifo": [FIRST, Entry("pipe", kind=tarfile.FIFOTYPE)],
}
CASES = [(name, write_tar, entries, True) for name, entries in UNSAFE_TARS.items()]
for kind in (write_zip, write_tar):
    CASES += [(f"{kind.__name__} {name}", kind, entries, False) for name, entries in UNSAFE.items()]
    CASES += [(f"{kind.__name__} link {name}", kind, entries, True) for name, entries in UNSAFE_LINKS.items()]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("write", "entries", "links"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_refuses_what_is_unsafe_and_writes_nothing(tmp_path, write, entries, links):
    (tmp_path / "secret").write_text("kept")
    archive = write(tmp_path / "evil.pack", *entries)
    before = tree(tmp_path)
    with pytest.raises(ScriptEnvironmentError, match="the pack is refused: it holds '.+"):
        unpack(archive, str(tmp_path / "out"), name="the pack", links=links)
    assert tree(tmp_path) == before


def test_doesnt_write_over_or_through_what_is_there(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to(tmp_path / "outside")
    (tmp_path / "out/file").write_text("kept")
    for number, entry in enumerate(
        [Entry("link/evil"), Entry("link"), Entry("file"), Entry("file/evil"), Entry("link/")]
    ):
        kind = tarfile.DIRTYPE if entry.name.endswith("/") else tarfile.REGTYPE
        archive = write_tar(tmp_path / f"{number}.tar", Entry("new"), entry._replace(kind=kind))
        before = tree(tmp_path)
        with pytest.raises(ScriptEnvironmentError, match="refused"):
            unpack(archive, str(tmp_path / "out"), name="a")
        assert tree(tmp_path) == before
    archive = write_tar(tmp_path / "leads.tar", link("evil", "link/x"))
    with pytest.raises(ScriptEnvironmentError, match="outside"):
        unpack(archive, str(tmp_path / "out"), name="a", links=True)


def damaged(tmp_path):
    """Yield name and bytes of archives that were cut short or changed."""
    noise = os.urandom(200_000)
    whole = {
        suffix: pathlib.Path(
            write_tar(tmp_path / f"whole{suffix}", Entry("a", b"a"), Entry("b", noise), Entry("c", b"c"), mode=mode)
        ).read_bytes()
        for suffix, mode in TARS.items()
    }
    whole[".zip"] = pathlib.Path(write_zip(tmp_path / "whole.zip", Entry("a"), Entry("b", noise))).read_bytes()
    for suffix, content in whole.items():
        yield f"half{suffix}", content[: len(content) // 2]
        if suffix != ".tar":  # which has no checksum of its content
            middle = len(content) // 2
            yield f"flipped{suffix}", content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    # The whole field of the name: a few bytes may be in the noise too.
    yield "header.tar", whole[".tar"].replace(b"c" + bytes(99), b"d" + bytes(99), 1)
    yield "between.tar", whole[".tar"][:1024]
    yield "text.tar.gz", b"no archive at all"
    yield "empty.zip", b""
    yield "env.tar.zst", b"\x28\xb5\x2f\xfd" + noise


def test_refuses_what_is_damaged_and_writes_nothing(tmp_path):
    for name, content in list(damaged(tmp_path)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ScriptEnvironmentError, match=name):
            unpack(str(tmp_path / name), str(tmp_path / "out"), name=name)
        assert not (tmp_path / "out").exists(), name


def test_refuses_an_encrypted_zip(tmp_path):
    path = pathlib.Path(write_zip(tmp_path / "a.zip", Entry("a", b"secret")))
    content = bytearray(path.read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + at] |= 1
    path.write_bytes(content)
    with pytest.raises(ScriptEnvironmentError, match="encrypted"):
        unpack(str(path), str(tmp_path / "out"), name="a")


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Limit the size of files, so that writing fails in the middle of a file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_leaves_nothing_half_when_writing_fails(tmp_path):
    archive = write_tar(tmp_path / "a.tar.gz", *GOOD, mode="w:gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("kept")
    with files_no_larger_than(1_000_000), pytest.raises(ScriptEnvironmentError, match="cannot be unpacked into"):
        unpack(archive, str(tmp_path / "out"), name="a")
    assert tree(tmp_path / "out") == {"mine": b"kept"}


def test_refuses_what_the_disk_has_no_room_for(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as pack:
        info = tarfile.TarInfo("hole")
        info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 55)}
        pack.addfile(info)
    with pytest.raises(ScriptEnvironmentError, match="needs 34359738368 MiB, and [0-9]+ MiB are free"):
        unpack(str(tmp_path / "a.tar"), str(tmp_path / "out"), name="a")
