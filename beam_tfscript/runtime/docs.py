"""Addresses of the documentation's pages, for messages: a wheel contains no docs."""

from beam_tfscript import __version__

# setup.py reads this line too.
ADDRESS = "https://github.com/beam-tfscript/beam-tfscript"


def page(name):
    # type: (str) -> str
    """Return the address of a page, such as `types`, as of this version's release."""
    return "{}/blob/v{}/docs/{}.md".format(ADDRESS, __version__, name)
