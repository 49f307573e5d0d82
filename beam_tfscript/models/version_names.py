"""Names in a directory of model versions, common to all of its writers."""

from __future__ import annotations

import os

__all__ = ["MODEL_FILES", "TOKEN_FILE", "STAGING_DIR", "version_of"]

# Directory of models that are being written, and of the version numbers that trainings have reserved. Its name is not a
# number, so no reader takes it for a version.
STAGING_DIR = ".publishing"
# File in a version, with the key of the version's training.
TOKEN_FILE = os.path.join("assets.extra", "beam_tfscript_training")
# A directory with one of these files is a SavedModel.
MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")


def version_of(name: str) -> int:
    """Return the version of a directory's name; 0 if the name is not a number."""
    return int(name) if name.isascii() and name.isdigit() else 0
