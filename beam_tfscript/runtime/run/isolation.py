"""Isolation between the runs of one process: each run starts as in a new interpreter, as far as Python allows."""

import os
import signal
import sys
import threading

from beam_tfscript.runtime import compat
from beam_tfscript.runtime.transport import stdio


class RunIsolation(object):
    """Context manager that enters a run's directory, and undoes the script's changes after the run.

    Undone: environment variables, current directory, `sys.path`, `sys.argv`, logging, signal handlers, the
    script's own modules, TensorFlow's default graph and mode, and Keras' session. Not undone, as Python cannot: threads
    and processes that the script started. `leftovers()` names those that still run; the process is then not reused.

    Args:
      work_dir: path of the run's directory; made the current directory, and put first on `sys.path`.
      argv: list of str that the script sees as `sys.argv`.
      label: the run's name, which its log lines carry.
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
        stdio.mark_run(self._label)
        _reset_tensorflow()
        sys.path.insert(0, self._work_dir)
        sys.argv = list(self._argv)
        os.chdir(self._work_dir)
        return self

    def __exit__(self, kind, error, trace):
        if os.getpid() != self._owner:
            return  # a child that the script forked, and which ends now: the run belongs to its parent
        # Flushes too: text without a line end is a line now that the run is over.
        stdio.mark_run(self._label)
        os.environ.clear()
        os.environ.update(self._environ)
        os.chdir(self._directory)
        sys.path[:] = self._path
        sys.argv = self._arguments
        for number, handler in self._signals.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        stdio.reset_logging()
        self._forget_modules()
        sys.path_importer_cache.clear()

    def leftovers(self):
        """Return the names of threads and processes that the script left running."""
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
        # The next run may have other files of the same names.
        inside = os.path.join(os.path.realpath(self._work_dir), "")
        plain = os.path.join(self._work_dir, "")
        for name, module in list(sys.modules.items()):
            paths = [getattr(module, "__file__", None)] + _package_path(module)
            if any(isinstance(path, str) and path.startswith((inside, plain)) for path in paths):
                del sys.modules[name]
        compat.forget()


_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD]
_has_run = False


def _reset_tensorflow():
    """Reset TensorFlow's state; leave it untouched before the process's first run."""
    global _has_run
    tensorflow = sys.modules.get("tensorflow")
    if _has_run and tensorflow is not None and hasattr(tensorflow, "compat"):
        from beam_tfscript.runtime.tf import tf_state

        tf_state.reset(tensorflow)
    _has_run = True


def _package_path(module):
    """Return a package's directories; a script may put any object into `sys.modules`."""
    try:
        return list(getattr(module, "__path__", None) or [])
    except TypeError:
        return []


def _children():
    """Return the number of child processes; 0 on systems without /proc."""
    total = 0
    try:
        for task in os.listdir("/proc/self/task"):
            with open("/proc/self/task/{}/children".format(task)) as listing:
                total += len(listing.read().split())
    except OSError:
        return 0
    return total
