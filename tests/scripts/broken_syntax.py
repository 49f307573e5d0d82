"""A script that cannot be read."""


def main(config):
    return (
