"""A script that needs what is not there."""

import no_such_module_anywhere  # noqa: F401


def main(config):
    pass
