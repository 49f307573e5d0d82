"""Checks of the runtime's reading and writing on each interpreter; test_runtime_reader.py runs them as a program.

    python runtime_checks.py [check …]

prints a JSON object a check, `{"check": name, "error": traceback or null}`. Python 3.6 syntax.
"""

import json
import os
import shutil
import subprocess
import sys
import traceback

import numpy as np
import runtime_write_checks
import tensorflow as tf
from runtime_cases import (
    ALL,
    FOLDER,
    NULLABLE,
    READ,
    ROWS,
    SOME_NULLS,
    as_lists,
    assert_raises,
    assert_same,
    column,
    evaluate,
    example,
    memory_bytes,
    open_files,
    save,
)

from beam_tfscript.runtime.columns import InputMismatch, columns_from_wire
from beam_tfscript.runtime.reading import reader
from beam_tfscript.runtime.tf import tf_state
from beam_tfscript.runtime.writing.encode import ExampleEncoder


def check_every_type_survives_writing_and_reading():
    encoder = ExampleEncoder(ALL)
    records = encoder.encode_batch(ROWS)
    path = save(records)
    (batch,) = reader.numpy_batches(path, ALL, 8)
    assert set(batch) == set(READ)
    for name in READ:
        assert_same(batch[name], READ[name])
    # Values that were read can be written as they are.
    again = encoder.encode_batch(batch)
    one_by_one = [encoder.encode_row({name: ROWS[name][index] for name in ROWS}) for index in range(3)]
    for others in (again, one_by_one):
        for first, second in zip(records, others):
            assert tf.train.Example.FromString(first) == tf.train.Example.FromString(second)


def check_dataset_gives_the_same_values_in_graph_and_eager_mode():
    path = save(ExampleEncoder(ALL).encode_batch(ROWS))
    for _, batches in evaluate(lambda: reader.parsed_dataset(path, ALL, 8)):
        (batch,) = batches
        assert set(batch) == set(READ)
        for name in READ:
            assert_same(batch[name], READ[name])


def check_feature_spec_has_fixed_and_variable_length_features_only():
    spec = reader.feature_spec(ALL, exclude=["text"])
    assert "text" not in spec and "nested__row_lengths" in spec
    assert {type(feature) for feature in spec.values()} == {tf.io.FixedLenFeature, tf.io.VarLenFeature}
    assert list(spec["tensor"].shape) == [2, 3] and spec["flag"].dtype == tf.int64
    assert_raises(ValueError, ["nonesuch", "small"], reader.feature_spec, ALL, exclude=["nonesuch"])
    assert_raises(ValueError, "list", reader.feature_spec, ALL, exclude="text")
    estimator = getattr(tf, "estimator", None)
    if hasattr(estimator, "export"):
        with tf.Graph().as_default():
            receiver = estimator.export.build_parsing_serving_input_receiver_fn(spec)()
        assert set(receiver.features) == set(spec)


def check_masks_tell_null_from_zero_and_from_empty():
    encoder = ExampleEncoder(NULLABLE)
    records = encoder.encode_batch(SOME_NULLS)
    expected = {
        "x": [0, 0, 3], "x__present": [False, True, True], "t": [b"", b"", b"a"], "t__present": [True, False, True],
        "v": [[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]], "v__present": [True, False, True], "a": [[], [], [1.0]],
        "a__present": [False, True, True], "n": [[], [], [[b"a"], []]], "n__present": [True, False, True],
        "b": [[], [], [1, 2]], "b__present": [True, False, True], "i": [[0, 0], [0, 0], [1, 255]],
        "i__present": [True, False, True],
        "d": [7, 0, 1], "e": [-0.5, 0.0, 1.0], "f": [True, False, True], "p": [b"1.50", b"0", b"1"],
        "s": ["ü".encode("utf-8"), b"", b"a"], "w": ["ü".encode("utf-8"), b"", b"a"],
    }  # fmt: skip
    path = save(records)
    (batch,) = reader.numpy_batches(path, NULLABLE, 8, masks=True)
    runs = [("numpy", [batch])] + list(evaluate(lambda: reader.parsed_dataset(path, NULLABLE, 8, masks=True)))
    for mode, batches in runs:
        assert {name: as_lists(value) for name, value in batches[0].items()} == expected, (mode, batches[0])
    # Masks may be written as they are read.
    again = [tf.train.Example.FromString(record) for record in encoder.encode_batch(batch)]
    for index, record in enumerate(records):
        message = tf.train.Example.FromString(record)
        for name in ("x", "t", "v", "a", "n", "b", "i"):
            assert again[index].features.feature[name] == message.features.feature[name]


def check_masks_take_a_key_that_is_not_there_for_null():
    columns = columns_from_wire([column("x", "bigint", nullable=True), column("a", "bigint", (None,), nullable=True)])
    records = [example().SerializeToString(), example(x=[1], a=[2]).SerializeToString(), b""]
    (batch,) = reader.numpy_batches(save(records), columns, 8, masks=True)
    assert batch["x__present"].tolist() == batch["a__present"].tolist() == [False, True, False]


def check_a_null_without_masks_is_an_error_that_names_the_column():
    columns = columns_from_wire([column("age", "bigint", nullable=True), column("id", "bigint")])
    path = save([example(id=[1], age=[1]).SerializeToString(), example(id=[2], age=None).SerializeToString()])
    batches = reader.numpy_batches(path, columns, 1)
    assert next(batches)["age"].tolist() == [1]
    assert_raises(InputMismatch, ['"age"', "age__present", "default"], next, batches)
    assert_raises(
        tf.errors.InvalidArgumentError, "age", list, evaluate(lambda: reader.parsed_dataset(path, columns, 2))
    )


def check_ready_examples_that_do_not_fit_are_errors():
    cases = [
        ("range of smallint", column("x", "smallint"), example(x=[70000]), False),
        ("x", column("x", "bigint"), example(x=[1, 2]), False),
        ("x", column("x", "bigint"), example(x=[1.0]), False),
        ("", column("x", "bigint", nullable=True), example(x=[1, 2]), True),
        ("neither", column("x", "float", (3,), nullable=True), example(x=[1.0, 2.0]), True),
        ("range of uint8", column("x", "uint8"), example(x=[256]), False),
        ("range of uint32", column("x", "uint32"), example(x=[-1]), False),
        ("3 bytes", column("x", "uint8", (3,)), example(x=[b"ab"]), False),
        ("3 bytes", column("x", "uint8", (3,), nullable=True), example(x=[b"ab"]), True),
        ("", column("x", "uint8", (3,), nullable=True), example(x=[b"abc", b"abc"]), True),
        ("add up", column("x", "float", (None, None)), example(x=[1.0, 2.0], x__row_lengths=[1]), False),
    ]
    for words, wire, message, masks in cases:
        path = save([message.SerializeToString()])
        batches = reader.numpy_batches(path, columns_from_wire([wire]), 1, masks=masks)
        assert_raises(InputMismatch, words, next, batches)


def check_dataset_shuffles_repeats_and_drops_the_remainder():
    columns = columns_from_wire([column("x", "bigint")])
    path = save(ExampleEncoder(columns).encode_batch({"x": np.arange(100)}))
    options = {"shuffle": 100, "repeat": 2, "drop_remainder": True}
    for _, batches in evaluate(lambda: reader.parsed_dataset(path, columns, 30, **options)):
        rows = np.concatenate([batch["x"] for batch in batches])
        assert len(batches) == 6 and {batch["x"].shape for batch in batches} == {(30,)}
        assert sorted(rows[:100]) == list(range(100)) and rows[:100].tolist() != list(range(100))
    for _, batches in evaluate(lambda: reader.parsed_dataset(path, columns, 30)):
        assert [len(batch["x"]) for batch in batches] == [30, 30, 30, 10]
        assert np.concatenate([batch["x"] for batch in batches]).tolist() == list(range(100))


def check_dataset_has_static_shapes_and_the_columns_dtypes():
    path = save(ExampleEncoder(ALL).encode_batch(ROWS))
    with tf.Graph().as_default():
        dataset = reader.parsed_dataset(path, ALL, 2, drop_remainder=True, exclude=["text"])
        types = tf.compat.v1.data.get_output_types(dataset)
        shapes = tf.compat.v1.data.get_output_shapes(dataset)
    assert "text" not in types
    assert types["small"] == tf.int16 and types["exact"] == tf.float64 and types["flag"] == tf.bool
    assert shapes["tensor"].as_list() == [2, 2, 3] and shapes["small"].as_list() == [2]


def check_options_out_of_range_are_refused_at_the_call():
    for options in ({"batch_size": 0}, {"shuffle": True}, {"shuffle": -1}, {"repeat": 1.5}, {"batch_size": "8"}):
        name = list(options)[0]
        arguments = dict({"batch_size": 1}, **options)
        assert_raises(ValueError, "`{}`".format(name), reader.parsed_dataset, "nowhere", ALL, **arguments)
    assert_raises(ValueError, "`n`", reader.numpy_batches, "nowhere", ALL, 0)
    clash = columns_from_wire([column("x", "bigint", nullable=True), column("x__present", "boolean")])
    assert_raises(ValueError, "x__present", reader.numpy_batches, "nowhere", clash, 1, masks=True)


def check_batches_leave_the_scripts_graph_and_eager_state_alone():
    eager = tf.executing_eagerly()
    path = save(ExampleEncoder(ALL).encode_batch(ROWS))
    with tf.Graph().as_default() as graph:
        assert len(list(reader.numpy_batches(path, ALL, 2))) == 2
        assert graph.get_operations() == []
        assert tf.compat.v1.get_default_graph() is graph and tf.compat.v1.get_default_session() is None
        graph.finalize()
        assert len(list(reader.numpy_batches(path, ALL, 2))) == 2
    assert tf.executing_eagerly() == eager


def check_batches_that_are_not_finished_close_their_file():
    columns = columns_from_wire([column("raw", "varbinary")])
    path = save(ExampleEncoder(columns).encode_batch({"raw": [os.urandom(100000)] * 50}))
    batches = reader.numpy_batches(path, columns, 1)
    next(batches)
    assert path in open_files()
    batches.close()
    assert path not in open_files()


def check_batches_of_a_function_and_of_vectors():
    columns = columns_from_wire([column("x", "bigint")])
    records = ExampleEncoder(columns).encode_batch({"x": np.arange(10)})

    def vectors():
        return tf.data.Dataset.from_tensor_slices(np.array(records, object)).batch(4)

    found = [batch["x"].tolist() for batch in reader.numpy_batches(vectors, columns, 3)]
    assert found == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    if tf.executing_eagerly():
        found = [batch["x"].tolist() for batch in reader.numpy_batches(vectors(), columns, 5)]
        assert found == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    else:
        assert_raises(TypeError, "function", next, reader.numpy_batches(vectors(), columns, 5))


def check_an_empty_file_has_no_batches():
    assert list(reader.numpy_batches(save([]), ALL, 8, masks=True)) == []


def check_memory_stays_flat_over_a_long_file():
    columns = columns_from_wire([column("raw", "varbinary")])
    record = ExampleEncoder(columns).encode_row({"raw": os.urandom(1 << 20)})
    path = save([record] * 8)
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "ab") as file:
        for _ in range(63):
            file.write(data)
    with open("/proc/self/clear_refs", "w") as reset_peak:
        reset_peak.write("5")
    before = memory_bytes("VmRSS")
    assert sum(1 for _ in reader.numpy_batches(path, columns, 4)) == 128
    grown = memory_bytes("VmHWM") - before
    # Half a GiB was read; only some batches of 4 MiB are in memory.
    assert grown < 150 << 20, grown


def check_reset_clears_what_a_script_left():
    eager = tf.executing_eagerly()
    tf.compat.v1.InteractiveSession()
    left = tf.Graph().as_default()
    left.__enter__()
    tf.compat.v1.placeholder(tf.float32)
    tf_state.reset(tf)
    assert tf.compat.v1.get_default_session() is None
    assert tf.executing_eagerly() == eager
    assert tf.compat.v1.get_default_graph().get_operations() == []
    name = tf.keras.layers.Dense(1).name
    tf_state.reset(tf)
    assert tf.keras.layers.Dense(1).name == name


def check_threads_are_limited():
    tf_state.reset(tf)
    assert tf.config.threading.get_intra_op_parallelism_threads() == THREADS


def check_pool_has_as_many_threads_as_the_limit_says_whatever_a_session_asks_for():
    in_session = (
        "with tf.Graph().as_default():\n"
        "    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=9, inter_op_parallelism_threads=1)\n"
        "    tf.compat.v1.Session(config=config).run(tf.matmul(tf.ones([600, 600]), tf.ones([600, 600])))\n"
    )
    in_eager_code = (
        "if not tf.executing_eagerly(): tf.compat.v1.enable_eager_execution()\n"
        "tf.matmul(tf.ones([600, 600]), tf.ones([600, 600])).numpy()\n"
    )
    for operation in (in_session, in_eager_code):
        code = LIMITED + operation + "import os; print(len(os.listdir('/proc/self/task')))"
        few, many = [int(output) for output in run_programs([code.format(2), code.format(6)])]
        # Without the limit, they would differ by at most one short-lived thread.
        assert many - few > 2, (few, many)


def check_dataset_of_a_generator_works_where_eager_execution_was_just_turned_on():
    code = LIMITED.format(2) + (
        "tf_state.reset(tf); tf.compat.v1.enable_eager_execution()\n"
        "print([int(n) for n in tf.data.Dataset.from_generator(lambda: iter([1, 2]), tf.int64)])"
    )
    assert run_programs([code]) == ["[1, 2]"]


def run_programs(codes):
    """Run some programs in parallel, and return their outputs."""
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for code in codes
    ]
    outputs = [program.communicate() for program in started]
    for program, (_, errors) in zip(started, outputs):
        assert program.returncode == 0, errors.decode()
    return [output.decode().strip() for output, _ in outputs]


LIMITED = (
    "import tensorflow as tf; from beam_tfscript.runtime.tf import tf_state\n"
    "tf_state.note(tf); tf_state.limit_threads(tf, {})\n"
)
THREADS = 3
CHECKS = {
    name: value
    for module in (globals(), vars(runtime_write_checks))
    for name, value in list(module.items())
    if name.startswith("check_")
}


def main(names):
    tf_state.note(tf)
    tf_state.limit_threads(tf, THREADS)
    for name in names or CHECKS:
        error = None
        try:
            CHECKS[name]()
        except Exception:  # noqa: BLE001 - a check that fails in any way is reported, and the other checks run
            error = traceback.format_exc()
        print(json.dumps({"check": name, "error": error}), flush=True)
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main(sys.argv[1:])
