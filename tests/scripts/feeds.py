"""Scripts for the feeds `bundles` and `stream`: each entry is a way to read rows, or to misread them.

Those that use `example_batches` need no TensorFlow, and start in a tenth of a second where there is none.
"""

import multiprocessing
import os
import signal
import struct
import sys
import time


def batches(config):
    """Write each row, with the process and window that read it."""
    for number, batch in enumerate(config.batches(config.user_params.get("n", 16))):
        rows = len(batch["id"])
        config.write_batch(
            id=batch["id"], batch=[number] * rows, rows=[rows] * rows, pid=[os.getpid()] * rows,
            window=[window_text(config)] * rows, attempt=[config.attempt] * rows,
        )  # fmt: skip


def window_text(config):
    """Return the run's window as text."""
    return "" if config.window is None else "{:g}-{:g}".format(*config.window)


def datasets(config):
    """Write each row, bundle by bundle, in graph mode."""
    import tensorflow as tf

    feeds = config.datasets()
    number = 0
    while True:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            dataset = next(feeds, None)
            if dataset is None:
                return
            assert config.dataset_length == len(list(tf.compat.v1.io.tf_record_iterator(config.dataset_file)))
            parsed = dataset.batch(7).map(lambda records: tf.io.parse_example(records, config.feature_spec)["id"])
            following = tf.compat.v1.data.make_one_shot_iterator(parsed).get_next()
            while True:
                try:
                    ids = session.run(following)
                except tf.errors.OutOfRangeError:
                    break
                rows = len(ids)
                config.write_batch(
                    id=ids, batch=[number] * rows, rows=[config.dataset_length] * rows, pid=[os.getpid()] * rows,
                    window=[window_text(config)] * rows, attempt=[config.attempt] * rows,
                )  # fmt: skip
        number += 1


def dataset_fn(config):
    """Write each record of the open-ended Dataset as it comes; then make a second pass, which is empty."""
    import tensorflow as tf

    for record in config.dataset_fn():
        example = tf.train.Example.FromString(record.numpy())
        write_one(config, example.features.feature["id"].bytes_list.value[0])
    assert list(config.dataset_fn()) == []


def parsed_dataset(config):
    """Write the rows of the parsed Dataset."""
    for batch in config.dataset(config.user_params.get("n", 4)):
        for name in batch["id"].numpy():
            write_one(config, name)


def write_one(config, name):
    config.write(id=name, batch=0, rows=1, pid=os.getpid(), window=window_text(config), attempt=config.attempt)


def count(config):
    """Write one row at the end: the number of rows."""
    rows = sum(len(records) for records in config.example_batches(8))
    write_one(config, "{} rows".format(rows))


def returns_early(config):
    """Return with rows unread."""
    for number, names in named_batches(config):
        write_names(config, number, names)
        return


def stops(config):
    """Stop the feed after some rows, and write outputs of those rows after that."""
    for number, names in named_batches(config):
        write_names(config, number, names)
        if number == config.user_params.get("last", 1):
            config.stop()
    write_one(config, "stopped")


def stops_at_once(config):
    """Stop the feed without reading a row."""
    config.stop()


def stops_before_it_reads(config):
    """Stop the feed without reading a row, and write a row."""
    config.stop()
    write_one(config, "stopped")


def stops_between_bundles(config):
    """Stop the feed when all rows of the first bundle are done."""
    for number, names in named_batches(config):
        if number:
            break
        write_names(config, number, names)
    config.stop()
    write_one(config, "stopped")


def never_reads(config):
    """Wait without reading rows."""
    time.sleep(600)


def marked(path):
    """Return the number of marks in a file, and add one."""
    with open(path, "a+") as marks:
        marks.seek(0)
        count = len(marks.read())
        marks.write("x")
    return count


def mixes_units(config):
    """Read rows in two ways."""
    next(config.datasets())
    next(config.batches(4))


def asks_for_a_stream(config):
    """Use a method of feed="stream"."""
    config.dataset_fn()


def asks_for_a_dataset(config):
    """Use a method that this feed does not have."""
    config.dataset(4)


def name_of(record):
    """Return the short id of an Example of one feature; the import of TensorFlow would take four seconds."""
    assert record[6:8] == b"id", record
    return record[14:]


def named_batches(config):
    """Yield (number, ids) of each batch."""
    for number, records in enumerate(config.example_batches(config.user_params.get("n", 8))):
        yield number, [name_of(record) for record in records]


def write_names(config, number, names):
    rows = len(names)
    config.write_batch(
        id=names, batch=[number] * rows, rows=[rows] * rows, pid=[os.getpid()] * rows,
        window=[window_text(config)] * rows, attempt=[config.attempt] * rows,
    )  # fmt: skip


def echo(config):
    """Write as `batches` does; the fault at a row (`at`, `times`, `how`) happens after its batch is written."""
    for number, names in named_batches(config):
        write_names(config, number, names)
        fail_at(config, names)
    write_mark(config, "ended")


def counts(config):
    """Write as `echo` does, and count a batch before the fault."""
    for number, names in named_batches(config):
        config.counter("seen").inc(len(names))
        write_names(config, number, names)
        fail_at(config, names)


def echo_file(config):
    """Write the rows of `dataset_file`."""
    for record in file_records(config):
        write_one(config, name_of(record))


def echo_all(config):
    """Write as `echo` does, in any feed."""
    for number, names in read_all(config):
        write_names(config, number, names)
        fail_at(config, names)


def echo_file_backwards(config):
    """Write the rows in any feed, the last row of each batch first."""
    for _, names in read_all(config):
        for name in reversed(names):
            write_one(config, name)


def fail_at(config, names):
    """Die or raise in the middle of a batch, as often as `user_params` says."""
    at, params = config.user_params.get("at"), config.user_params
    if at is None or at.encode() not in names or marked(params["marks"]) >= params["times"]:
        return
    config.output_writer.flush()
    if params.get("how") == "raise":
        raise ArithmeticError("no more of this")
    os.kill(os.getpid(), signal.SIGKILL)


def write_mark(config, text):
    """Note in a file, if `user_params` names one, that the script has come this far."""
    path = config.user_params.get("told")
    if path is not None:
        with open(path, "a") as marks:
            marks.write("{} {}\n".format(os.getpid(), text))


def says_who_it_is(config):
    """Write the process id before reading."""
    write_mark(config, "begun")
    echo(config)


def stays_alive(config):
    """Read a batch, and hold it forever."""
    for _ in config.example_batches(8):
        write_mark(config, "reading")
        time.sleep(600)


def pass_on(config):
    """Write the records as they came."""
    for records in config.example_batches(config.user_params.get("n", 8)):
        for record in records:
            config.output_writer.write(record)


def enlarge(config):
    """Write some megabytes for each row."""
    for records in config.example_batches(100):
        for record in records:
            for number in range(config.user_params["times"]):
                name = name_of(record)
                config.write(id=name + b"-%d-" % number + b"x" * config.user_params["size"])


def slow(config):
    """Sleep with each batch."""
    for number, names in named_batches(config):
        time.sleep(config.user_params["seconds"])
        write_names(config, number, names)


def writes_after_the_end(config):
    """Write an output after the last bundle."""
    echo(config)
    write_one(config, "too late")


def sums_up(config):
    """Write the number of rows and bytes of each batch."""
    for records in config.example_batches(config.user_params["n"]):
        write_one(config, "{} records, {} bytes".format(len(records), sum(map(len, records))))


def in_two_ways(config):
    """Read whole bundles at the first attempt, and batches at the next."""
    if config.attempt == 1:
        # datasets() without TensorFlow's Dataset.
        config.feed.take_dataset()
        os.kill(os.getpid(), signal.SIGKILL)
    echo(config)


def sums_up_nothing(config):
    """Count, and write no row."""
    for records in config.example_batches(8):
        config.counter("seen").inc(len(records))


def stops_late(config):
    """Stop the feed when the channel is full of rows."""
    if config.user_params["reads"]:
        next(config.example_batches(1))
    time.sleep(0.5)
    config.stop()


def silent_without_rows(config):
    """Sleep longer than a script with unread rows may be silent."""
    time.sleep(1)
    write_one(config, "done")


def read_all(config):
    """Yield (number, ids) of each batch, in any feed."""
    if config.feed is None:
        yield from enumerate([[name_of(record) for record in file_records(config)]])
    else:
        yield from named_batches(config)


def file_records(config):
    """Yield the records of a TFRecord file."""
    with open(config.dataset_file, "rb") as file:
        while True:
            header = file.read(12)
            if not header:
                return
            (length,) = struct.unpack("<Q", header[:8])
            yield file.read(length)
            file.read(4)


def forks(config):
    """Fork a child in the middle of each batch; the child ends as `user_params` says."""
    how = config.user_params["how"]
    for number, names in read_all(config):
        half = len(names) // 2
        write_names(config, number, names[:half])
        pid = os.fork()
        if pid == 0:
            end_child(config, how, names)
            return
        _, status = os.waitpid(pid, 0)
        write_names(config, number, names[half:])
        write_mark(config, "child ended with {}".format(os.WEXITSTATUS(status)))


def end_child(config, how, names):
    if how == "sys.exit":
        sys.exit(0)
    if how == "sys.exit(3)":
        sys.exit(3)
    if how == "raises":
        raise ArithmeticError("in the child")
    if how == "writes":
        write_names(config, 0, names)
    elif how == "flushes":
        config.output_writer.flush()
    elif how == "counts":
        config.counter("children").inc()
    elif how == "reads":
        next(config.example_batches(1))
    elif how == "stops":
        config.stop()


def lengths(names):
    """Return the lengths of ids; runs in a pool's worker."""
    return [len(name) for name in names]


def uses_a_pool(config):
    """Process the rows in a pool of processes, as scripts that load data do."""
    context = multiprocessing.get_context(config.user_params["how"])
    with context.Pool(2) as pool:
        for number, names in read_all(config):
            assert sum(pool.map(lengths, [names[::2], names[1::2]]), []), names
            write_names(config, number, names)
        pool.close()
        pool.join()


def leaves_a_child(config):
    """Leave a child behind that has all its parent's descriptors open."""
    if os.fork() == 0:
        write_mark(config, "child")
        time.sleep(600)
        os._exit(0)
    echo(config)


def freezes(config):
    """Note each batch; freeze from the second batch on, as often as `user_params` says."""
    for number, names in read_all(config):
        write_mark(config, "reading")
        if number and marked(config.user_params["marks"]) < config.user_params.get("times", 99):
            freeze(config.user_params["how"])
        write_names(config, number, names)


def freeze(how):
    if how == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "computing":
        sum(range(10**13))  # one call of C, which lets no other thread run
    else:
        time.sleep(600)


def freezes_with_a_file(config):
    """Freeze in feed="dataset"."""
    write_mark(config, "reading")
    freeze(config.user_params["how"])


def hangs_behind_its_loop(config):
    """Acknowledge all rows, and never return."""
    echo(config)
    write_mark(config, "behind the loop")
    time.sleep(600)


def works_behind_its_loop(config):
    """Sleep after all rows are done."""
    echo(config)
    time.sleep(config.user_params["seconds"])
    write_mark(config, "saved")


def waits_with_the_last_rows(config):
    """Write all rows but those of the last batch, which it keeps forever."""
    for number, names in named_batches(config):
        if number == 10:
            write_mark(config, "reading")
            time.sleep(600)
        write_names(config, number, names)
