"""Small Python environments for tests: packed from the interpreter that runs them, and a wheel to install."""

from __future__ import annotations

import io
import os
import pathlib
import sys
import sysconfig
import tarfile
import zipfile

# Parts of the standard library that no test needs: most of its size.
_LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "__pycache__", "site-packages"}


def pack_python(path: pathlib.Path, *, folder: str = "", site: str | None = None, relocate: str | None = None) -> str:
    """Pack an interpreter with its standard library, as `conda-pack` does, into a .tar.gz.

    Args:
      path: the archive.
      folder: the directory in it that holds the environment; by default its top.
      site: a directory whose packages the environment sees too.
      relocate: text of `bin/conda-unpack`, a Python script; None for an archive without.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    stdlib = pathlib.Path(sysconfig.get_path("stdlib"))
    start = f"{folder}/" if folder else ""
    with tarfile.open(path, "w:gz", compresslevel=1) as pack:
        pack.add(os.path.realpath(sys.executable), f"{start}bin/{version}")
        _add_link(pack, f"{start}bin/python", version)
        for entry in sorted(stdlib.iterdir()):
            if entry.name not in _LEFT_OUT and not entry.name.startswith("config-"):
                pack.add(entry, f"{start}lib/{version}/{entry.name}", filter=_leave_out)
        _add_file(pack, f"{start}lib/{version}/site-packages/more.pth", f"{site or ''}\n")
        if relocate is not None:
            _add_file(pack, f"{start}bin/conda-unpack", relocate)
    return str(path)


def pack_wrapper(path: pathlib.Path, files: dict[str, str] | None = None) -> str:
    """Pack a `bin/python` that starts the interpreter of this machine: a working environment of a few bytes."""
    with tarfile.open(path, "w:gz") as pack:
        _add_file(pack, "bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n', mode=0o755)
        for name, text in (files or {}).items():
            _add_file(pack, name, text)
    return str(path)


def write_wheel(directory: pathlib.Path, name: str, version: str = "1.0") -> str:
    """A wheel with one module of that name; returns what `requirements` needs to install it without any index."""
    directory.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return f"--find-links={directory}"


def _leave_out(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if pathlib.PurePath(info.name).name in _LEFT_OUT else info


def _add_file(pack: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(text.encode()), mode
    pack.addfile(info, io.BytesIO(text.encode()))


def _add_link(pack: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    pack.addfile(info)
