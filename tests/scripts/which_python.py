"""Writes in what interpreter it runs, with what it finds there, and how many rows it was given."""

import importlib
import sys

import tensorflow as tf


def find(name):
    """The version of a module, or "" where there is none."""
    try:
        return importlib.import_module(name).VERSION
    except ImportError:
        return ""


def main(config):
    rows = sum(len(batch["x"]) for batch in config.batches(64))
    python = "{}.{}".format(*sys.version_info[:2])
    config.write(python=python, prefix=sys.prefix, tensorflow=tf.__version__, tiny=find("tiny"), rows=rows)
