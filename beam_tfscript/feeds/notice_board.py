"""The notes of all shares of a cluster, listed by a thread; and this share's own notes and its heartbeat."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any

from beam_tfscript.cluster.notes import Note, first_round
from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.files.shared_directory import SharedDirectory
from beam_tfscript.files.uris import mask_uri

_LOGGER = logging.getLogger(__name__)

# Time between two listings. Shorter, a store of objects would be asked more often; longer, all machines would learn of
# a failure later.
POLL_S = 1.0
# Time between two heartbeats, each of which writes a file and deletes one.
BEAT_S = 5.0
# A share whose heartbeat stands still for this time counts as dead. Longer than the time for which an NFS client may
# show an old listing in most settings; a dead machine is noticed so much later.
DEAD_S = 30.0
# How long the thread may take to end: a call of a file system cannot be interrupted.
_CLOSE_S = 30.0


class NoticeBoard:
    """Notes of one cluster, seen by all of its machines.

    A heartbeat is a new file each time, and not a file that is written again. So it is seen in a listing alone, and a
    client of a network file system lists the changed directory anew.

    Args:
      directory: of the cluster, for nothing else.
      share: random name of this share.
      max_attempts: of the cluster.

    Attributes:
      round: the number of the present round, which this share's notes have.

    Raises:
      ScriptEnvironmentError: the directory cannot be listed or written.
    """

    def __init__(self, directory: SharedDirectory, share: str, max_attempts: int):
        self._directory = directory
        self._share = share
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._own: dict[str, bytes] = {}
        self._contents: dict[Note, Any] = {}
        self._beats: dict[str, tuple[int, float]] = {}  # share -> number, and when it was first seen
        self._beat = 0
        self._ok_at = time.monotonic()
        self._error: Exception | None = None
        try:
            self.round = first_round(self._list(), max_attempts)
            self._write_beat()
            self._refresh()
        except Exception as error:  # each file system raises the errors of its own library
            raise self._describe(error) from error
        self._thread = threading.Thread(target=self._watch, name=f"beam_tfscript notes of {share}", daemon=True)
        self._thread.start()

    def post(self, kind: str, attempt: int, content: bytes = b"null", number: int = 0) -> None:
        """Write a note of this share.

        Raises:
          ScriptEnvironmentError: the directory cannot be written.
        """
        note = Note(self.round, kind, attempt, self._share, number)
        try:
            self._directory.write(note.name, content)
        except Exception as error:
            raise self._describe(error) from error
        with self._changed:
            self._own[note.name] = content
            self._contents[note] = json.loads(content)
            self._changed.notify_all()

    def notes(self, kind: str, attempt: int | None = None) -> dict[Note, Any]:
        """Return the notes of a kind in this round, in one attempt or in all, each with its JSON value."""
        with self._changed:
            return {
                note: content
                for note, content in self._contents.items()
                if note.kind == kind and (attempt is None or note.attempt == attempt)
            }

    def is_alive(self, share: str) -> bool:
        """Return True if the heartbeat of a share has changed lately; a share that was never seen is dead."""
        with self._changed:
            seen = self._beats.get(share)
            return share == self._share or (seen is not None and time.monotonic() - seen[1] < DEAD_S)

    def wait(self, timeout_s: float) -> None:
        """Wait until there may be new notes."""
        with self._changed:
            self._changed.wait(timeout_s)

    def is_lost(self) -> bool:
        """Return True if the directory could not be used for so long that the peers take this share for dead."""
        return time.monotonic() - self._ok_at > DEAD_S

    def check(self) -> None:
        """Raise the error of a directory that could not be used for so long.

        Raises:
          ScriptEnvironmentError: no heartbeat could be written.
        """
        if self.is_lost():
            error = self._error or TimeoutError(f"a call has not returned for {DEAD_S:g} s")
            raise self._describe(error) from error

    def close(self) -> None:
        """End the thread and the heartbeat; the last share that lives removes the directory."""
        self._stopping.set()
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            _LOGGER.warning("%s does not answer; files of a cluster are left there", mask_uri(self._directory.path))
            return
        try:
            notes = self._list()
            self._note_beats(notes)
            if any(note.kind == "beat" and note.share != self._share and self.is_alive(note.share) for note in notes):
                self._directory.delete(self._beat_name())
            else:
                self._directory.remove()
        except Exception as error:  # noqa: BLE001 - as above; the cluster's work is done, or has failed already
            _LOGGER.warning(
                "files of a cluster are left in %s: %s: %s",
                mask_uri(self._directory.path), type(error).__name__, error,
            )  # fmt: skip

    def _watch(self) -> None:
        beat_at = time.monotonic() + BEAT_S
        while not self._stopping.wait(POLL_S):
            try:
                if time.monotonic() >= beat_at:
                    self._write_beat()
                    beat_at = time.monotonic() + BEAT_S
                self._refresh()
                self._ok_at, self._error = time.monotonic(), None
            except Exception as error:  # noqa: BLE001 - as above; one that lasts is raised by `check`
                if self._error is None:
                    _LOGGER.warning("%s cannot be used just now: %s", mask_uri(self._directory.path), error)
                self._error = error

    def _write_beat(self) -> None:
        last = self._beat_name()
        self._beat += 1
        self._directory.write(self._beat_name(), b"0")
        if self._beat > 1:
            self._directory.delete(last)

    def _beat_name(self) -> str:
        return Note(self.round, "beat", 0, self._share, self._beat).name

    def _list(self) -> list[Note]:
        return [note for note in map(Note.parse, self._directory.names()) if note is not None]

    def _refresh(self) -> None:
        """Take in what is there, and write own notes that were removed by a share that took itself for the last."""
        notes = self._list()
        self._note_beats(notes)
        names = {note.name for note in notes}
        with self._changed:
            own = {**self._own, self._beat_name(): b"0"}
        for name, content in own.items():
            if name not in names:
                self._directory.write(name, content)
        for note in notes:
            if note.round == self.round and note.kind != "beat" and note not in self._contents:
                self._read(note)
        with self._changed:
            self._changed.notify_all()

    def _read(self, note: Note) -> None:
        try:
            value = json.loads(self._directory.read(note.name))
        except Exception as error:  # noqa: BLE001 - as above; a part of a file, or one that was just removed
            _LOGGER.debug("%s cannot be read yet: %s", note.name, error)
            return
        with self._changed:
            self._contents[note] = value

    def _note_beats(self, notes: list[Note]) -> None:
        now = time.monotonic()
        with self._changed:
            for note in notes:
                if note.kind == "beat" and note.number > self._beats.get(note.share, (0, 0.0))[0]:
                    self._beats[note.share] = (note.number, now)

    def _describe(self, error: Exception) -> ScriptEnvironmentError:
        return ScriptEnvironmentError(
            f"the tasks of a cluster cannot meet in {mask_uri(self._directory.path)}: {type(error).__name__}: {error}. "
            "Give a spool_dir that all workers can write to."
        )
