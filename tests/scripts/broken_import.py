"""Script that imports a missing module."""

import no_such_module_anywhere  # noqa: F401


def main(config):
    pass
