"""Runs in the script process: load the script, call its entry function, report how that ended."""
