"""Hooks of the site's builder: pages that read well on the hosting site come in, pages of the site go out.

README.md becomes the start page. A link that leads out of docs/ becomes an address on the hosting site, made from the
constant that error messages and setup.py use too. The API reference has the runtime's classes by their public names.
"""

from __future__ import annotations

import pathlib
import posixpath
import re

import griffe
from mkdocs.structure.files import File

from beam_tfscript import __version__
from beam_tfscript.runtime.docs import ADDRESS

ROOT = pathlib.Path(__file__).parents[1]
_LINK = re.compile(r"(!?\[[^\]]*\])\((?!\w+:|#)([^)\s]+)\)")


class PublicRuntime(griffe.Extension):
    """Reads the public classes of `beam_tfscript.runtime` from their source, which has docstrings.

    Griffe takes them from `__init__.pyi`, which has types only.
    """

    def on_package(self, *, pkg, loader, **kwargs):
        """Replace each class of the stub by an alias of the class that `__init__.py` imports by this name."""
        runtime = pkg["runtime"]
        for name, source in runtime.imports.items():
            if name in (runtime.exports or ()):
                runtime.set_member(name, griffe.Alias(name, source))


def on_config(config):
    """Name the repository, so that every page links to it."""
    config.repo_url = ADDRESS
    return config


def on_files(files, config):
    """Add README.md as the start page."""
    text = relinked((ROOT / "README.md").read_text("utf-8"), folder="")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Return the page with links, and Markdown inside HTML tables, that work on the site."""
    # The hosting site reads Markdown inside HTML without being asked; Python-Markdown wants an attribute.
    markdown = re.sub(r"<(table|tr|th|td)>", r"<\1 markdown>", markdown)
    return markdown if page.file.src_uri == "index.md" else relinked(markdown, folder="docs")


def relinked(markdown: str, folder: str) -> str:
    """Return Markdown of a file in `folder` with its links as a page in docs/ needs them.

    Links to pages and pictures in docs/ stay relative. Every other file of the repository is named by its address.
    """

    def link(found: re.Match) -> str:
        path, hash_sign, anchor = found[2].partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        if path.startswith("docs/"):
            return f"{found[1]}({path[len('docs/') :]}{hash_sign}{anchor})"
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{found[1]}({ADDRESS}/{kind}/v{__version__}/{path}{hash_sign}{anchor})"

    return _LINK.sub(link, markdown)
