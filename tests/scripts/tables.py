"""Scripts between tables, and scripts that read and write tables themselves; none needs TensorFlow."""


def copy(config):
    """Write each row as it comes."""
    for records in config.example_batches(7):
        for record in records:
            config.output_writer.write(record)


def read_slices(config):
    """Write the rows of a worker's slice of a table, with the number of the slice."""
    import common_io

    params = config.user_params
    reader = common_io.table.TableReader(
        params["table"], selected_cols="age, id", slice_id=config.shard, slice_count=config.num_shards, capacity=4
    )
    config.counter("counted").inc(reader.get_row_count())
    assert reader.get_schema() == [("age", "bigint"), ("id", "string")]
    assert reader.end_pos - reader.start_pos == reader.get_row_count()
    if params.get("seek"):
        reader.read(3)
        reader.seek(params["seek"])
        assert reader.offset_pos == reader.start_pos + params["seek"]
    while True:
        try:
            for age, name in reader.read(5, allow_smaller_final_batch=True):
                assert name is None or isinstance(name, bytes)
                config.write(id=name, age=age, slice=config.shard)
        except common_io.exception.OutOfRangeException:
            break
    reader.close()


def write_table(config):
    """Write the run's number to a table, and rows to the run's output."""
    import paiio

    with paiio.python_io.TableWriter(config.user_params["table"], slice_id=config.shard) as writer:
        writer.write([(b"a", config.shard, [1.5]), ("b", None, [])], (0, 1, 2))
        writer.write(("c", 7), [0, 1])
    with paiio.TableWriter("feed://") as writer:
        writer.write([("x", 1), (b"y", None)], indices=(0, 1))


def mistakes(config):
    """Write the error of each mistake."""
    import paiio

    table = config.user_params["table"]
    for arguments in (
        (table + "/pt=1", "idd"), (table + "/pt=9",), (table,), (table.replace("people", "absent"),), ("people",),
        (table + "/pt=1", "", "", 2, 2), ("feed://",), ("feed://side",),
    ):  # fmt: skip
        try:
            paiio.TableReader(*arguments)
            error = "none"
        except ValueError as raised:
            error = str(raised)
        config.write(id=error, age=0, slice=0)


def read_feed(config):
    """Write the run's rows, and those of a side input, as a table's reader gives them."""
    import paiio
    import tensorflow as tf

    reader = paiio.python_io.TableReader("feed://", excluded_cols="x", slice_id=1, slice_count=2)
    while True:
        try:
            for name, age in reader.read(4):
                config.write(id=name, age=age, slice=0)
        except tf.errors.OutOfRangeError:
            break
    if config.side_files:
        for name, age in paiio.TableReader("feed://side").read(10):
            config.write(id=name, age=age, slice=1)
    if config.feed is None:
        assert reader.get_row_count() == config.dataset_length


def read_dataset(config):
    """Write the rows of a Dataset of a table, summed up in batches."""
    import numpy as np
    import paiio
    import tensorflow as tf

    dataset = paiio.data.TableRecordDataset(
        [config.user_params["table"]], record_defaults=[b"none", np.int64(-1)], selected_cols="id,age",
        slice_id=config.shard, slice_count=config.num_shards, num_threads=2, capacity=4,
    )  # fmt: skip
    batches = tf.compat.v1.data.make_one_shot_iterator(dataset.batch(3))
    if tf.executing_eagerly():
        for names, ages in batches:
            config.write_batch(id=names.numpy(), age=ages.numpy(), slice=[config.shard] * len(names))
