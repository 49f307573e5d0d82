"""The script process's end of the channel: requests in by a thread of their own, reports out.

The reading thread never waits for the script, so that the death of the pipeline's process is seen
at once, whatever the script is doing: the script process then ends itself and all it has started.
"""

import faulthandler
import itertools
import os
import queue
import signal
import sys
import threading
import traceback

from beam_tfscript.runtime.transport import scratch, wire

# How long the pipeline's process may take to be gone for good once its end of the channel is.
_OWNER_GONE_S = 3.0


class ForkedError(RuntimeError):
    """A forked child of the script used what belongs to the script's own process."""


class Connection(object):
    """Sends reports to the pipeline's process and hands out its requests.

    It belongs to the process that made it. A child that the script forks has a copy of all its memory, and so of rows
    that wait to be sent: what a child tries to send is an error there, and never reaches the channel.

    Args:
      sock: connected stream socket; owned by the connection from here on.
      scratch_directory: removed when the pipeline's process is found dead.
    """

    def __init__(self, sock, scratch_directory):
        self._sock = sock
        self._owner = os.getpid()
        self._scratch_directory = scratch_directory
        self._requests = queue.Queue()  # type: queue.Queue
        self._rows = queue.Queue()  # type: queue.Queue
        self._send_lock = threading.Lock()
        self._num_sent = 0
        self._main_thread = threading.get_ident()
        # What PROBE must never show as the script's: frames of this package.
        self._package = os.path.dirname(os.path.abspath(__file__))
        if hasattr(os, "register_at_fork"):
            # A child that lives on would hold the channel open. Older Pythons than 3.7 cannot do this.
            os.register_at_fork(after_in_child=self._sock.close)
        threading.Thread(target=self._read, name="beam_tfscript-reader", daemon=True).start()

    @property
    def is_owner(self):
        """Whether this process is the script's own, and not a child that it forked."""
        return os.getpid() == self._owner

    def check_owner(self, what):
        """Check that this is the script's own process.

        Args:
          what: what the script does, for the error.

        Raises:
          ForkedError: it is a child that the script forked.
        """
        if not self.is_owner:
            raise ForkedError(
                "{} in a forked child of the script (pid {}, of pid {}): only the script's own process is connected to "
                "the pipeline. Give the child's results back to the parent, by a multiprocessing.Pool or a Queue, and "
                "do it there.".format(what, os.getpid(), self._owner)
            )

    def send(self, frame):
        """Sends one frame; waits while the pipeline's process is not reading (back-pressure)."""
        # Before the lock, which in a child may be held for ever by a thread that was not copied.
        self.check_owner("sending " + frame.name)
        with self._send_lock:
            try:
                wire.send_frame(self._sock, frame, self._num_sent)
                self._num_sent += 1
            except OSError:
                self._end("the pipeline's process closed the channel")

    def report(self, kind, value=None):
        """Sends one control frame."""
        self.send(wire.control_frame(kind, value))

    def next_request(self):
        """Waits for the next RUN or CLOSE; the reading thread ends the process if none can come.

        Returns:
          (the frame, a queue of the frames with the rows of that run).
        """
        return self._requests.get()

    def _read(self):
        try:
            for number in itertools.count():
                frame = wire.receive_frame(self._sock, number)
                if frame is None:
                    self._end("the pipeline's process is gone")
                if frame.kind == wire.PROBE:
                    # Not from this thread: it would wait behind a blocked writer, and then the death
                    # of the pipeline's process would go unseen.
                    threading.Thread(target=self._report_stack, daemon=True).start()
                elif frame.kind in (wire.RUN, wire.INSPECT, wire.CLOSE):
                    # A queue for each run: what one has left unread is none of the next one's rows.
                    self._rows = queue.Queue()
                    self._requests.put((frame, self._rows))
                else:
                    self._rows.put(frame)
        except (wire.WireError, OSError) as error:
            self._end("the channel broke: {}".format(error))

    def _report_stack(self):
        frame = sys._current_frames().get(self._main_thread)
        lines = traceback.extract_stack(frame)
        own = [line for line in lines if not line.filename.startswith(self._package)]
        self.report(wire.STACK, {"stack": "".join(traceback.format_list(own[-12:]))})

    def _end(self, reason):
        """Ends this process and every process it started that is still in its group."""
        try:
            os.write(2, "beam_tfscript: {}; the script process ends\n".format(reason).encode("utf-8"))
        except OSError:
            pass  # nobody is left to read it
        scratch.remove_if_abandoned(self._scratch_directory, _OWNER_GONE_S)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)


def report_signals(stack_signal):
    """Have Python's stacks written to stderr at a segmentation fault and its like, and when they are asked for.

    Args:
      stack_signal: the signal that asks; its handler needs no lock, so it works where the interpreter is inside a C
        call that holds its lock. None for no such signal.
    """
    faulthandler.enable(file=2)
    if stack_signal is not None:
        faulthandler.register(stack_signal, file=2, all_threads=True)
