"""A script without an entry function."""


def score(config):
    pass
