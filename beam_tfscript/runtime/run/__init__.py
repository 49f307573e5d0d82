"""Runs in the script process: load the script, call its entry function, report the end.

Files:

    launcher         the process's main function: starts up, serves runs, exits
    run_script       one run
    load_script      the script as a module, whatever its file's name
    isolation        undoes a run's changes to Python and TensorFlow
    likely_mistakes  runs that end well and give no rows
"""
