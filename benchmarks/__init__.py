"""Benchmarks: each prints this project and its peers side by side, from one run.

What comes in are options of the command line; what goes out is a report on standard output, and with
`--json FILE` the same figures as JSON. Nothing here is imported by the package.

    throughput.py   rows per second, whole time and memory of RunTFScript and five peers
    memory.py       what a shard of gigabytes costs the pipeline's process and the script process
    codec.py        rows and Arrow batches to Example bytes and back, against building messages, and tfx-bsl alone
    write_batch.py  write_batch in the script, against a loop that builds and writes messages
    tuned_handler.py  the tuned peer's model handler
    workload.py     makes the rows and the models that all contenders share
    contenders.py   one contender in one fresh process
    digest.py       counts and checks what a contender gave out
    measure.py      runs a command, measures its time and the peak memory of its processes
    report.py       figures -> the lines that are printed
    scripts/        the TensorFlow scripts, as a user would write them

Run them as modules, e.g. `python -m benchmarks.throughput --rows 100000`; docs/benchmarks.md explains the figures.
"""
