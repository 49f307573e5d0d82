"""Script that lists its files, and tries to change them."""

import json
import os
import shutil


def show(directory):
    """Return path -> content of all files in a directory: text, or the kind of file; with an x for a program."""
    found = {}
    for folder, inner, names in os.walk(directory):
        for name in inner + names:
            path = os.path.join(folder, name)
            kind = "link" if os.path.islink(path) else "directory" if os.path.isdir(path) else "file"
            mark = "x" if kind == "file" and os.access(path, os.X_OK) else ""
            found[os.path.relpath(path, directory)] = kind + mark + str(os.path.getsize(path) if kind == "file" else "")
    return found


def write_all(directory):
    """Try each way to change the files in a directory; return the paths that were changed."""
    changed = []
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            if _succeeds(_write, path):
                changed.append(path)
            if _succeeds(os.rename, path, path + ".moved"):
                changed.append(path)
        if _succeeds(_write, os.path.join(folder, "added")):
            changed.append(folder)
    return changed


def _write(path):
    with open(path, "wb") as file:
        file.write(b"overwritten")


def _succeeds(act, *arguments):
    try:
        act(*arguments)
        return True
    except OSError:
        return False


def main(config):
    rows = sum(len(batch["x"]) for batch in config.batches(64))
    staged = os.path.dirname(os.path.realpath(__file__))
    shown = show(staged)
    changed = write_all(staged)
    if config.user_params.get("copy"):
        shutil.copytree(os.path.join(staged, "folder"), "copied")
    config.write(rows=rows, shown=json.dumps(shown), changed=json.dumps(changed))
