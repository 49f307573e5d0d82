"""The arguments of the public transforms, each declared once.

    argument     Argument and Flag: one declaration, with its check, default, display item and command-line flag
    checks       checks of single values
    masking      values without secrets, for display items
    script       the script, its files, its parameters and its Python environment
    rows         the columns, the side inputs and the output
    cluster      the tasks of a TensorFlow cluster
    runs         the feed, the attempts and the timeouts
    training     the arguments of trainings alone
    signatures   the arguments of each transform, in the order of its signature

`__init__` of a transform repeats names, types, defaults and meanings, so that editors and type checkers see them.
`tests/test_argument_table.py` asserts that they equal the declaration.
"""
