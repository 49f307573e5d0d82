"""Config of the current run: set when the run starts, and found from any module of the script."""

_current = None


def get_config():
    """Return the current run's config, for modules of the script that are not given it as an argument.

    Raises:
      RuntimeError: there is no current run, for example in a script that was started by hand.
    """
    if _current is None:
        raise RuntimeError("no run is going on: get_config() works between the start and the end of main(config)")
    return _current


def set_config(config):
    """Set the config that `get_config()` returns; None after the run."""
    global _current
    _current = config


def note_reading():
    """Note that the script of the current run, if there is one, reads its rows."""
    if _current is not None:
        _current.has_read = True
