"""`akdl.runner.io_helper`: a model's directory as rows, copies of files, and removal of an Estimator's files."""

import base64
import fnmatch
import os
import tempfile
import zipfile

from beam_tfscript.runtime.tf import saved_model

__all__ = [
    "file_io_copy_fix",
    "find_timestamp_dir",
    "gfile_copy_dir_content",
    "output_model_to_flink",
    "remove_checkpoint_files",
    "unpack_model_from_flink",
]

# Bytes per row. Base64 makes 1 MiB of text of them; a multiple of 3 needs no padding.
_PART_BYTES = 768 << 10
# A fixed date, so that the same files give the same rows.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_LEFT_FILES = (
    "atexit_sync_*",
    "checkpoint",
    "events.out.tfevents.*",
    "graph.pbtxt",
    "model.ckpt-*",
    "pipeline.config",
    "version",
)
_LEFT_DIRECTORIES = ("best_ckpt", "eval_val", "export", "keras", "pretrained_ckpt")


def find_timestamp_dir(saved_model_dir):
    """Return the path of the newest export of `export_saved_model` in a directory; else the directory itself."""
    if saved_model.is_saved_model(saved_model_dir):
        return saved_model_dir
    names = [name for name in os.listdir(saved_model_dir) if os.path.isdir(os.path.join(saved_model_dir, name))]
    finished = [name for name in names if not name.startswith("temp-")]
    if not finished:
        return saved_model_dir
    newest = max(finished, key=lambda name: (int(name) if name.isdigit() else -1, name))
    return os.path.join(saved_model_dir, newest)


def output_model_to_flink(model_dir, output_writer):
    """Write a model as rows of `model_id bigint, model_info string`.

    Row 0 holds the name of a zip file. Rows 1, 2, 3 … hold the file's bytes as base64, in parts. In the pipeline,
    `ModelRowsToSavedModel` makes a directory from the rows.

    Args:
      model_dir: path of an export, or of the directory that holds exports named by a timestamp.
      output_writer: `write(example)` takes a `tf.train.Example`.
    """
    directory = find_timestamp_dir(model_dir)
    name = os.path.basename(os.path.normpath(directory)) + ".zip"
    output_writer.write(_row(0, name.encode("utf-8")))
    with tempfile.TemporaryFile() as packed:
        _pack(directory, packed)
        packed.seek(0)
        number = 0
        while True:
            part = packed.read(_PART_BYTES)
            if not part:
                return
            number += 1
            output_writer.write(_row(number, base64.b64encode(part)))


def unpack_model_from_flink(model_path, work_dir):
    """Make a model's directory from its rows, and return its path.

    Args:
      model_path: path of a text file with one row per line: `model_id`, a space, `model_info`; in any order.
      work_dir: path of the parent directory; the directory is named as the model.

    Raises:
      ValueError: a row is missing or damaged.
    """
    rows = {}
    with open(model_path) as file:
        for line in file:
            number, _, info = line.partition(" ")
            rows[int(number)] = info.strip()
    absent = sorted(set(range(max(rows, default=0) + 1)) - set(rows))
    if absent:
        raise ValueError(
            "{} lacks row {} of the model: write all rows of output_model_to_flink() into the file".format(
                model_path, absent[0]
            )
        )
    name = os.path.basename(rows.pop(0))
    directory = os.path.join(work_dir, name[: -len(".zip")] if name.endswith(".zip") else name)
    with tempfile.TemporaryFile() as packed:
        for _, info in sorted(rows.items()):
            packed.write(base64.b64decode(info, validate=True))
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(directory)
    return directory


def gfile_copy_dir_content(remote_dir, local_dir):
    """Copy a directory's contents to another directory; both may be paths or URIs that `tf.io.gfile` opens."""
    import tensorflow as tf

    tf.io.gfile.makedirs(local_dir)
    for listed in tf.io.gfile.listdir(remote_dir):
        name = listed.strip("/")
        source, target = remote_dir.rstrip("/") + "/" + name, local_dir.rstrip("/") + "/" + name
        if not name:
            continue
        if tf.io.gfile.isdir(source):
            gfile_copy_dir_content(source, target)
        else:
            file_io_copy_fix(source, target, overwrite=True)


def file_io_copy_fix(src, dst, overwrite=False):
    """Copy a file; both may be paths or URIs that `tf.io.gfile` opens.

    Raises:
      ValueError: `dst` exists, and `overwrite` is False.
    """
    import tensorflow as tf

    if not overwrite and tf.io.gfile.exists(dst):
        raise ValueError("{} exists already: pass overwrite=True to replace it".format(dst))
    tf.io.gfile.copy(src, dst, overwrite=True)


def remove_checkpoint_files(model_dir):
    """Remove checkpoints, summaries and exports from a model's directory, so that a training starts anew.

    Args:
      model_dir: path or URI that `tf.io.gfile` opens; need not exist.
    """
    import tensorflow as tf

    if not tf.io.gfile.isdir(model_dir):
        return
    for listed in tf.io.gfile.listdir(model_dir):
        name = listed.rstrip("/")
        path = os.path.join(model_dir, name)
        if name in _LEFT_DIRECTORIES:
            tf.io.gfile.rmtree(path)
        elif any(fnmatch.fnmatchcase(name, pattern) for pattern in _LEFT_FILES):
            tf.io.gfile.remove(path)


def _row(number, info):
    import tensorflow as tf

    features = {
        "model_id": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
        "model_info": tf.train.Feature(bytes_list=tf.train.BytesList(value=[info])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def _pack(directory, target):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for folder, inner, names in os.walk(directory):
            inner.sort()
            for name in sorted(names) + [one + "/" for one in inner]:
                path = os.path.join(folder, name)
                entry = zipfile.ZipInfo(os.path.relpath(path, directory) + ("/" if name.endswith("/") else ""))
                entry.date_time, entry.compress_type = _ZIP_DATE, zipfile.ZIP_DEFLATED
                entry.external_attr = (0o40755 if name.endswith("/") else 0o100644) << 16
                if name.endswith("/"):
                    archive.writestr(entry, b"")
                else:
                    _pack_file(archive, path, entry)


def _pack_file(archive, path, entry):
    # In parts, which Python 3.6 and newer can do: a file of variables may be larger than memory.
    entry.file_size = os.path.getsize(path)
    with open(path, "rb") as source, archive.open(entry, "w") as out:
        while True:
            part = source.read(1 << 20)
            if not part:
                return
            out.write(part)
