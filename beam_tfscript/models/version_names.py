"""The names in a directory of model versions, which all who write there agree on."""

from __future__ import annotations

import os

__all__ = ["MODEL_FILES", "TOKEN_FILE", "STAGING_DIR", "version_of"]

# What is being made, and which training was promised which number. No number: nobody takes it for a version.
STAGING_DIR = ".publishing"
# In a version: which training it is of.
TOKEN_FILE = os.path.join("assets.extra", "beam_tfscript_training")
# One of them makes a directory a SavedModel.
MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")


def version_of(name: str) -> int:
    """The version that a directory's name says; 0 where it is no number."""
    return int(name) if name.isascii() and name.isdigit() else 0
