"""A script whose main is not there when it is looked for."""

if True:
    main = None


def other(config):
    pass


def yields(config):
    yield {"id": "a"}
