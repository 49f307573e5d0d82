"""Script whose `main` is not a function."""

if True:
    main = None


def other(config):
    pass


def yields(config):
    yield {"id": "a"}
