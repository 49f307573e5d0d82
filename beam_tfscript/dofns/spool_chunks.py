"""Chunks on their way to the shuffle: as they are while the data is small, else as references to spooled files."""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from beam_tfscript import metrics
from beam_tfscript.data import tfrecord
from beam_tfscript.data.checksum import RowsChecksum
from beam_tfscript.data.chunks import Chunk
from beam_tfscript.files.row_spool import SpooledFile, SpoolWriter, job_directory, remove_abandoned, show_life
from beam_tfscript.options.script_options import ScriptOptions

# Bytes that a harness sends through the shuffle for one transform, before it spools the rest. Runners hold a group in
# memory at four to six times its size, so this is what each harness may add to a group that large.
SHUFFLED_BYTES = 64 << 20
# Transforms whose bytes are remembered.
_MAX_TRANSFORMS = 1000

# (shard, rows, TFRecord bytes, reference to a spooled file).
_Chunk: TypeAlias = "tuple[int, int, bytes, str]"

_lock = threading.Lock()
_shuffled: collections.OrderedDict[str, int] = collections.OrderedDict()
_shown_at: dict[str, float] = {}
# How often a harness shows that it uses a spool directory.
_SHOW_LIFE_S = 3600.0


class Sent(NamedTuple):
    """Rows on their way to the shuffle.

    Attributes:
      window: its window.
      shard: its shard.
      rows: its number of rows.
      payload: TFRecord bytes; empty if the rows are in a file.
      reference: reference to a spooled file; empty if the rows are in `payload`.
    """

    window: Any
    shard: int
    rows: int
    payload: bytes
    reference: str


class ChunkSpool:
    """Decides for the chunks of one bundle how they are sent.

    Args:
      options: the transform's arguments.
      gather_dir: local directory for files on their way to another file system.
    """

    def __init__(self, options: ScriptOptions, gather_dir: str):
        self._options = options
        self._needs_checksum = options.cluster is not None
        self._checksums: dict[Any, RowsChecksum] = collections.defaultdict(RowsChecksum)
        self._writer: SpoolWriter | None = None
        if options.spool_dir is not None:
            self._writer = SpoolWriter(job_directory(options.spool_dir, options.key), gather_dir)

    def send(self, chunk: Chunk) -> Iterator[Sent]:
        """Yield what is sent now for a chunk: itself, a file that is complete, or nothing yet.

        Raises:
          ScriptEnvironmentError: the spool directory cannot be written.
        """
        if self._writer is None or (self._options.spool == "large" and _fits(self._options.key, len(chunk.payload))):
            yield Sent(chunk.window, chunk.shard, chunk.count, chunk.payload, "")
            return
        assert self._options.spool_dir is not None
        mark_alive(self._options, is_writer=True)
        key = chunk.window, chunk.shard
        if self._needs_checksum:
            self._checksums[key].add(tfrecord.split(chunk.payload))
        metrics.add("bytes_spooled", len(chunk.payload))
        complete = self._writer.add(key, chunk.count, chunk.payload)
        if complete is not None:
            yield self._sent(key, *complete)

    def finish(self) -> Iterator[Sent]:
        """Yield what remains to be sent at the end of the bundle."""
        if self._writer is not None:
            for key, count, file in self._writer.finish():
                yield self._sent(key, count, file)

    def abandon(self) -> None:
        """Remove the files of a bundle that has failed."""
        if self._writer is not None:
            self._writer.abandon()

    def _sent(self, key: Any, count: int, file: SpooledFile) -> Sent:
        if self._needs_checksum:
            file = dataclasses.replace(file, checksum=str(self._checksums.pop(key)))
        window, shard = key
        return Sent(window, shard, count, b"", file.encode())


def while_read(options: ScriptOptions, chunks: Iterable[_Chunk]) -> Iterator[_Chunk]:
    """Yield the same chunks; mark the spool directory as used if one of them is a reference."""
    for chunk in chunks:
        if chunk[3]:
            mark_alive(options)
        yield chunk


def mark_alive(options: ScriptOptions, *, is_writer: bool = False) -> None:
    """Show from time to time that the job's spool directory is in use; a writer removes those of jobs that were killed.

    Args:
      options: the transform's arguments.
      is_writer: True if the directory may be new.
    """
    assert options.spool_dir is not None
    now = time.monotonic()
    with _lock:
        shown_at = _shown_at.get(options.key)
        if shown_at is not None and now < shown_at + _SHOW_LIFE_S:
            return
        _shown_at[options.key] = now
        while len(_shown_at) > _MAX_TRANSFORMS:
            del _shown_at[next(iter(_shown_at))]
    show_life(job_directory(options.spool_dir, options.key))
    if is_writer and shown_at is None:
        remove_abandoned(options.spool_dir)


def _fits(key: str, size: int) -> bool:
    """Count bytes for the shuffle; return False if a transform has had its share in this harness."""
    with _lock:
        total = _shuffled.get(key, 0) + size
        if total > SHUFFLED_BYTES:
            return False
        _shuffled[key] = total
        _shuffled.move_to_end(key)
        while len(_shuffled) > _MAX_TRANSFORMS:
            _shuffled.popitem(last=False)
        return True
