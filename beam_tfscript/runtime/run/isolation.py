"""Keeps the runs of one process apart: each starts as in a new interpreter, as far as that can be had."""

import os
import signal
import sys
import threading

from beam_tfscript.runtime.transport import streams


class RunIsolation(object):
    """Enters a run's directory and, when the run is over, takes back what the script changed.

    Taken back: environment variables, current directory, `sys.path`, `sys.argv`, logging, signal
    handlers, the script's own modules, TensorFlow's default graph and its mode, and Keras' session. Not taken
    back, since Python cannot: threads that still run and processes that were started; `leftovers()` names
    them, and the process is then not used again.

    Args:
      work_dir: the run's directory, made the current one and put first on `sys.path`.
      argv: what `sys.argv` is for the script.
      label: the run's name, which its lines in the log carry.
    """

    def __init__(self, work_dir, argv, label):
        self._work_dir = work_dir
        self._argv = argv
        self._label = label
        self._owner = os.getpid()

    def __enter__(self):
        self._environ = dict(os.environ)
        self._directory = os.getcwd()
        self._path = list(sys.path)
        self._arguments = sys.argv
        self._threads = set(threading.enumerate())
        self._signals = {number: signal.getsignal(number) for number in _SIGNALS}
        streams.mark_run(self._label)
        _reset_tensorflow()
        sys.path.insert(0, self._work_dir)
        sys.argv = list(self._argv)
        os.chdir(self._work_dir)
        return self

    def __exit__(self, kind, error, trace):
        if os.getpid() != self._owner:
            return  # a child that the script forked, which ends now: the run is its parent's
        # A line that has no end is one all the same, now that the run is over.
        streams.mark_run(self._label)
        os.environ.clear()
        os.environ.update(self._environ)
        os.chdir(self._directory)
        sys.path[:] = self._path
        sys.argv = self._arguments
        for number, handler in self._signals.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        streams.reset_logging()
        self._forget_modules()
        sys.path_importer_cache.clear()

    def leftovers(self):
        """What the script left running, in words; empty where nothing was."""
        threads = [
            thread.name
            for thread in threading.enumerate()
            if thread not in self._threads and not thread.daemon and thread.is_alive()
        ]
        names = ["thread {!r}".format(name) for name in threads]
        children = _children()
        if children:
            names.append("{} child process(es)".format(children))
        return names

    def _forget_modules(self):
        inside = os.path.join(os.path.realpath(self._work_dir), "")
        plain = os.path.join(self._work_dir, "")
        for name, module in list(sys.modules.items()):
            places = [getattr(module, "__file__", None)] + list(_package_path(module))
            if any(isinstance(place, str) and place.startswith((inside, plain)) for place in places):
                del sys.modules[name]


_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD]
_has_run = False


def _reset_tensorflow():
    """Puts TensorFlow back to how it was; leaves it untouched before the process's first run."""
    global _has_run
    tensorflow = sys.modules.get("tensorflow")
    if _has_run and tensorflow is not None and hasattr(tensorflow, "compat"):
        from beam_tfscript.runtime.tf import tf_state

        tf_state.reset(tensorflow)
    _has_run = True


def _package_path(module):
    try:
        return list(getattr(module, "__path__", None) or [])
    except TypeError:
        return []


def _children():
    """How many child processes this process has; 0 where the system does not tell."""
    total = 0
    try:
        for task in os.listdir("/proc/self/task"):
            with open("/proc/self/task/{}/children".format(task)) as listing:
                total += len(listing.read().split())
    except OSError:
        return 0
    return total
