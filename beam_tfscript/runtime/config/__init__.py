"""`config`, the argument of the script's entry function."""
