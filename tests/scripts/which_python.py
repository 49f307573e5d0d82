"""Script that writes its interpreter, the versions of modules there, and the number of its rows."""

import importlib
import sys

import tensorflow as tf


def find(name):
    """Return the version of a module; "" without it."""
    try:
        return importlib.import_module(name).VERSION
    except ImportError:
        return ""


def main(config):
    rows = sum(len(batch["x"]) for batch in config.batches(64))
    python = "{}.{}".format(*sys.version_info[:2])
    config.write(python=python, prefix=sys.prefix, tensorflow=tf.__version__, tiny=find("tiny"), rows=rows)
