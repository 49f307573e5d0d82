"""Addresses of the documentation's pages, for messages: a wheel has no docs beside it."""

from beam_tfscript import __version__

# setup.py reads it too.
ADDRESS = "https://github.com/beam-tfscript/beam-tfscript"


def page(name):
    # type: (str) -> str
    """Returns the address of a page, such as `types`, as it was when this version was released."""
    return "{}/blob/v{}/docs/{}.md".format(ADDRESS, __version__, name)
