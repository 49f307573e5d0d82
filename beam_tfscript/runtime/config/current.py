"""Config of the run that is going on: set when the run starts, found from any module of the script."""

_current = None


def get_config():
    """The config of the run that is going on, for modules of the script that are not handed it.

    Raises:
      RuntimeError: no run is going on, for example in a script that was started by hand.
    """
    if _current is None:
        raise RuntimeError("no run is going on: get_config() works between the start and the end of main(config)")
    return _current


def set_config(config):
    """Makes `config` the one that `get_config()` gives; None when the run is over."""
    global _current
    _current = config


def note_reading():
    """Note that the script of the run that is going on, if there is one, reads its rows."""
    if _current is not None:
        _current.has_read = True
