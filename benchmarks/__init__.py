"""Benchmarks: each prints this project and its peers side by side, from one run.

Options of the command line in; a report on standard output out, and with `--json FILE` the same figures as JSON. The
package imports none of these files.

    throughput.py   rows per second, total time and memory of RunTFScript and five peers
    latency.py      time from a row to its output, in bundles of one row
    memory.py       memory that a shard of gigabytes costs the pipeline's process and the script process
    cluster.py      time to form a cluster on one machine
    codec.py        rows and Arrow batches to Example bytes and back, beside messages in Python, and tfx-bsl alone
    write_batch.py  write_batch in the script, beside a loop that builds and writes messages
    tuned_handler.py  the tuned peer's model handler
    workload.py     makes the rows and the models that all contenders share
    contenders.py   one contender in one fresh process
    digest.py       counts and checks a contender's outputs
    measure.py      runs a command, and measures its time and the peak memory of its processes
    report.py       figures -> the lines that are printed
    scripts/        the TensorFlow scripts, as a user would write them

Run them as modules, e.g. `python -m benchmarks.throughput --rows 100000`; docs/benchmarks.md explains the figures.
"""
