"""The script process's end of the channel: a thread receives requests and rows, any thread sends frames.

The receiving thread never waits for the script, so it sees the death of the pipeline's process at once. The script
process then kills itself and the processes that it has started.
"""

import faulthandler
import itertools
import os
import queue
import signal
import sys
import threading
import traceback

import beam_tfscript
from beam_tfscript.runtime.transport import scratch, wire

# Seconds between the end of the channel and the end of the pipeline's process. The system closes the descriptors of a
# dying process one by one. Without the wait its lock still holds, and its scratch directory stays on disk.
_OWNER_GONE_S = 3.0
# Frames of the stack that STACK sends: the innermost ones tell where the script waits.
_STACK_FRAMES = 12


class ForkedError(RuntimeError):
    """A forked child of the script used the channel, which belongs to the script's own process."""


class Connection(object):
    """Connection to the pipeline's process: sends frames, and hands out requests.

    A connection belongs to the process that made it. A forked child has a copy of the rows that wait to be sent.
    If the child sent them, the pipeline would get them twice. So sending from a child is an error.

    Args:
      sock: connected stream socket; owned by the connection from here on.
      scratch_directory: path of the harness's scratch directory; removed if the pipeline's process is dead.
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
        # STACK leaves this package's frames out: they do not tell where the script is.
        self._package_directory = os.path.dirname(os.path.abspath(beam_tfscript.__file__))
        if hasattr(os, "register_at_fork"):
            # A child that outlives the script would hold the channel open, and the pipeline would wait for its end.
            # Python 3.6 has no such hook: https://docs.python.org/3/library/os.html#os.register_at_fork
            os.register_at_fork(after_in_child=self._sock.close)
        # A thread of its own: while the script computes, the main thread could not see that the pipeline is gone.
        threading.Thread(target=self._receive, name="beam_tfscript-reader", daemon=True).start()

    @property
    def is_owner(self):
        """True in the script's own process, False in a child that the script forked."""
        return os.getpid() == self._owner

    def check_owner(self, action):
        """Check that this is the script's own process.

        Args:
          action: the script's action, for the error message, such as "writing rows".

        Raises:
          ForkedError: this process is a child that the script forked.
        """
        if not self.is_owner:
            raise ForkedError(
                "{} in a forked child of the script (pid {}, of pid {}): only the script's own process is connected to "
                "the pipeline. Give the child's results back to the parent, by a multiprocessing.Pool or a Queue, and "
                "do it there.".format(action, os.getpid(), self._owner)
            )

    def send(self, frame):
        """Send one frame; block while the pipeline's process is not reading (back-pressure).

        Raises:
          ForkedError: this process is a child that the script forked.
        """
        # Before the lock: in a child, a thread that fork() did not copy may hold the lock forever.
        self.check_owner("sending " + frame.name)
        with self._send_lock:
            try:
                wire.send_frame(self._sock, frame, self._num_sent)
                self._num_sent += 1
            except OSError:
                self._end("the pipeline's process closed the channel")

    def send_control(self, kind, value=None):
        """Send a control frame with a JSON value."""
        self.send(wire.control_frame(kind, value))

    def next_request(self):
        """Wait for the next RUN, INSPECT or CLOSE.

        Without a timeout: the receiving thread kills the process when the channel ends.

        Returns:
          (the frame, queue of the frames that bring rows to that run).
        """
        return self._requests.get()

    def _receive(self):
        try:
            for number in itertools.count():
                frame = wire.receive_frame(self._sock, number)
                if frame is None:
                    self._end("the pipeline's process is gone")
                if frame.kind == wire.PROBE:
                    # Sending waits while the pipeline is not reading. If this thread waited, the death of the
                    # pipeline's process would go unseen.
                    threading.Thread(target=self._send_stack, daemon=True).start()
                elif frame.kind in (wire.RUN, wire.INSPECT, wire.CLOSE):
                    # A queue per run: rows that one run left unread must not reach the next run.
                    self._rows = queue.Queue()
                    self._requests.put((frame, self._rows))
                else:
                    self._rows.put(frame)
        except (wire.WireError, OSError) as error:
            self._end("the channel broke: {}".format(error))

    def _send_stack(self):
        frame = sys._current_frames().get(self._main_thread)
        lines = traceback.extract_stack(frame)
        of_script = [line for line in lines if not line.filename.startswith(self._package_directory)]
        self.send_control(wire.STACK, {"stack": "".join(traceback.format_list(of_script[-_STACK_FRAMES:]))})

    def _end(self, reason):
        """Kill this process, and each process of its group that the script started."""
        try:
            os.write(2, "beam_tfscript: {}; the script process ends\n".format(reason).encode("utf-8"))
        except OSError:
            pass  # the reader of stderr is gone as well
        scratch.remove_if_abandoned(self._scratch_directory, _OWNER_GONE_S)
        # Only as the leader of its group: otherwise this would kill processes that the script did not start.
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)


def write_stacks_on_signals(stack_signal):
    """Have Python write its stacks to stderr on a fatal signal, such as SIGSEGV, and on `stack_signal`.

    The handler takes no lock. So it also works while the interpreter is in a C call that holds Python's global lock.
    See https://docs.python.org/3/library/faulthandler.html.

    Args:
      stack_signal: number of the signal; None for fatal signals only.
    """
    faulthandler.enable(file=2)
    if stack_signal is not None:
        faulthandler.register(stack_signal, file=2, all_threads=True)
