"""The script process's end of the channel: requests in by a thread of their own, reports out.

The reading thread never waits for the script, so that the death of the pipeline's process is seen
at once, whatever the script is doing: the script process then ends itself and all it has started.
"""

import faulthandler
import os
import queue
import signal
import sys
import threading
import traceback

from beam_tfscript.runtime import scratch, wire

# How long the pipeline's process may take to be gone for good once its end of the channel is.
_OWNER_GONE_S = 3.0


class Connection(object):
    """Sends reports to the pipeline's process and hands out its requests.

    Args:
      sock: connected stream socket; owned by the connection from here on.
      scratch_directory: removed when the pipeline's process is found dead.
    """

    def __init__(self, sock, scratch_directory):
        self._sock = sock
        self._scratch_directory = scratch_directory
        self._requests = queue.Queue()  # type: queue.Queue
        self._rows = queue.Queue()  # type: queue.Queue
        self._send_lock = threading.Lock()
        self._main_thread = threading.get_ident()
        # What PROBE must never show as the script's: frames of this package.
        self._package = os.path.dirname(os.path.abspath(__file__))
        threading.Thread(target=self._read, name="beam_tfscript-reader", daemon=True).start()

    def send(self, frame):
        """Sends one frame; waits while the pipeline's process is not reading (back-pressure)."""
        with self._send_lock:
            try:
                wire.send_frame(self._sock, frame)
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
            while True:
                frame = wire.receive_frame(self._sock)
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


def report_fatal_signals():
    """Makes a segmentation fault and its like print the Python lines they came from, on stderr."""
    faulthandler.enable(file=2)
