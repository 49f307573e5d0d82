"""Script without an entry function."""


def score(config):
    pass
