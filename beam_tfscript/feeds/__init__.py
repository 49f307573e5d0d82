"""Feeds: the three ways in which rows come to runs of a script, and outputs back.

    run, fed_run, run_group     one request on one process; fed while it goes on; all tasks of a cluster
    dataset, dataset_cluster    whole runs over rows in files, repeated as a whole
    bundles                     one run that stays in its process from bundle to bundle
    stream, live_run            runs that go on while rows come, and rows that are kept for the next run
    retries, demultiplexer      the retry policy, and the way out for frames, of all feeds

No file in this room knows of Beam, but for the counters in `metrics`.
"""
