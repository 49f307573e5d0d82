"""Checks of the modules for other platforms' scripts, for interpreters without pytest. Python 3.6 syntax.

    python compat_checks.py

Runs every function whose name begins with `check_`; prints a JSON object for each, with its traceback or null.
"""

import json
import os
import sys
import tempfile
import traceback
import types

from beam_tfscript.runtime import compat
from beam_tfscript.runtime.columns import columns_from_wire
from beam_tfscript.runtime.config.config_values import Schema
from beam_tfscript.runtime.config.current import set_config
from beam_tfscript.runtime.config.tf_context import TFContext
from beam_tfscript.runtime.writing.writer import OutputWriter

CLUSTER = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}
WIRE = [
    {"name": name, "type": kind, "kind": kind, "feature": feature, "dtype": dtype, "shape": [], "nullable": True}
    for name, kind, feature, dtype in (("id", "bigint", "int64", "int64"), ("x", "float", "float", "float32"))
]


class Wire(object):
    """Connection that keeps the frames that are sent."""

    def __init__(self):
        self.frames = []

    def send(self, frame):
        self.frames.append(frame)

    def check_owner(self, doing):
        pass


def start_run(task_type="chief", task_index=0, **fields):
    """Start a run, and return its config."""
    set_config(None)
    TFContext.forget()
    columns = Schema(columns_from_wire(WIRE))
    config = types.SimpleNamespace(
        task_type=task_type, task_index=task_index, cluster=CLUSTER, num_workers=3, window=None, input_schema=columns,
        output_schema=columns, output_writer=OutputWriter(Wire(), columns), user_params={}, **fields
    )  # fmt: skip
    set_config(config)
    config.tf_context = TFContext.get_or_create(config)
    return config


def raises(kind, function, *arguments):
    """Return the message of the error that a call raises."""
    try:
        function(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError("nothing was raised")


def example(number, x):
    import tensorflow as tf

    features = {
        "id": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=[x])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def check_a_first_nothing_is_loaded_until_it_is_imported():
    loaded = [name for name in sys.modules if name.startswith(compat.__name__ + ".") or name in compat.NAMES]
    assert not loaded, loaded
    import akdl.runner.config
    from akdl.runner import io_helper

    assert akdl.runner.config.__all__ and io_helper.find_timestamp_dir
    assert "beam_tfscript.runtime.compat.estimators" not in sys.modules


def check_a_name_that_is_not_here_says_where_to_get_it():
    message = raises(ImportError, __import__, "akdl.models.tf")
    assert "akdl.models" in message and "user_files" in message, message
    assert raises(ImportError, __import__, "akdl_of_mine") == "No module named 'akdl_of_mine'"


def check_names_of_tables_are_in_packages_and_their_modules():
    import common_io
    import paiio
    from paiio.data import TableRecordDataset

    assert paiio.TableRecordDataset is TableRecordDataset is paiio.data.TableRecordDataset
    assert common_io.table.TableReader is paiio.TableReader is paiio.python_io.TableReader
    assert common_io.exception.OutOfRangeException is paiio.python_io.OutOfRangeException
    assert "is not the address of a table" in raises(ValueError, paiio.TableReader, "people")
    message = raises(ImportError, __import__, "common_io.foo")
    assert "common_io.foo" in message, message


def check_tables_are_the_runs_rows_and_its_output():
    import numpy as np
    import paiio

    class Side(object):
        """Config with rows of a side input."""

        def __init__(self, config):
            self.__dict__.update(config.__dict__)
            self.feed = None

        def _side_columns(self, name):
            assert name == "side"
            return self.input_schema

        def side_batches(self, name, n, masks):
            for start in range(0, 10, n):
                ids = np.arange(start, min(start + n, 10))
                yield {"id": ids, "x": ids / 2.0, "id__present": ids != 4}

        def write(self, **row):
            self.output_writer.write_row(row)

    config = Side(start_run())
    set_config(config)
    reader = paiio.TableReader("feed://side", selected_cols="x,id", slice_id=3, slice_count=9)
    assert reader.get_schema() == [("x", "float"), ("id", "bigint")]
    assert reader.read(4) == [(0.0, 0), (0.5, 1), (1.0, 2), (1.5, 3)]
    assert reader.read(9)[0] == (2.0, None) and reader.offset_pos == 10
    raises(paiio.python_io.OutOfRangeException, reader.read)
    with paiio.TableWriter("feed://") as writer:
        writer.write([(1.5, 7), (None, 8)], (1, 0))
        writer.write((9,), 0)
        assert "names 1 columns" in raises(ValueError, writer.write, (1, 2), 0)
    assert config.output_writer.count == 3
    assert "closed" in raises(ValueError, writer.write, (1,), 0)


def check_context_is_constructed_once():
    config = start_run()
    from dl_on_flink_tensorflow import tensorflow_context

    assert tensorflow_context.TFContext is TFContext
    assert TFContext(config) is config.tf_context is TFContext.get_or_create()
    message = raises(RuntimeError, TFContext, config)
    assert "get_or_create" in message, message
    assert start_run().tf_context is TFContext(config), "another run has another one"
    set_config(None)
    TFContext.forget()
    assert "no run is going on" in raises(RuntimeError, TFContext.get_or_create)


def check_chief_is_worker_0():
    places = [("chief", 0), ("worker", 0), ("worker", 1), ("ps", 0)]
    contexts = [start_run(*place).tf_context for place in places]
    found = [(context.get_role_name(), context.get_index()) for context in contexts]
    assert found == [("worker", 0), ("worker", 1), ("worker", 2), ("ps", 0)], found
    assert contexts[0].get_tf_cluster() == {"worker": ["a:1", "b:1", "c:1"], "ps": ["d:1"]}


def check_context_tells_counts_and_attempts():
    context = start_run("worker", 1, attempt=3).tf_context
    assert context.get_node_type_count_map() == {"worker": 3, "ps": 1}
    assert context.get_current_attempt_index() == 2
    assert (context.roleName, context.index) == ("worker", 2)


def check_exported_cluster_is_the_environments():
    context = start_run("worker", 1).tf_context
    try:
        assert context.export_estimator_cluster() == (CLUSTER, "worker", 1)
        assert json.loads(os.environ["TF_CONFIG"]) == {"cluster": CLUSTER, "task": {"type": "worker", "index": 1}}
    finally:
        os.environ.pop("TF_CONFIG", None)


def check_properties_are_strings():
    config = start_run()
    config.user_params = {"text": "a", "number": 5, "flag": True, "names": ["ä", "b"]}
    properties = config.tf_context.properties
    assert properties == {"text": "a", "number": "5", "flag": "true", "names": '["ä", "b"]'}, properties
    assert config.tf_context.get_property("number") == "5"


def check_writer_op_writes_each_record_whole():
    import tensorflow as tf

    config = start_run()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        feed = tf.compat.v1.placeholder(tf.string)
        write, close = config.tf_context.output_writer_op([feed])
        # An Example that ends in zero bytes: 0.0 is four of them.
        session.run(write, {feed: example(1, 0.0).SerializeToString()})
        session.run(write, {feed: [example(2, 0.0).SerializeToString(), example(3, 0.5).SerializeToString()]})
        assert not config.output_writer.count
        session.run(close)
    assert config.output_writer.count == 3


def check_akdl_writers_write_to_the_run():
    from akdl.runner import output_writer

    config = start_run()
    assert isinstance(config.output_writer, output_writer.DirectOutputWriter)
    for writer in (
        output_writer.DirectOutputWriter("from", "to"),
        output_writer.OutputWriter(config.tf_context.output_writer_op),
        output_writer.get_fake_output_writer(),
    ):
        writer.write(example(1, 0.5))
        writer.close()
    assert config.output_writer.count == 2, "the fake one writes nowhere"


def check_reader_ends_with_none():
    import tensorflow as tf
    from flink_ml_tensorflow.flink_tables import FlinkReader

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "rows")
        with tf.io.TFRecordWriter(path) as file:
            for number in range(5):
                file.write(example(number, number / 2.0).SerializeToString())
        context = start_run(dataset_parts=[path]).tf_context
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            reader = FlinkReader(context, batch_size=3)
            batches = [reader.next_batch(session) for _ in range(4)]
    assert [batch["id"].tolist() for batch in batches[:2]] == [[0, 1, 2], [3, 4]]
    assert batches[1]["x"].tolist() == [1.5, 2.0] and batches[2:] == [None, None]
    context.input_schema = None
    assert "input_schema" in raises(ValueError, FlinkReader, context)


def check_result_is_a_row_or_a_batch():
    import numpy as np
    from flink_ml_tensorflow2.flink_tables import FlinkWriter

    config = start_run()
    writer = FlinkWriter(config.tf_context)
    writer.write_result(None, [1, None])
    writer.write_result(None, {"id": np.arange(3), "x": np.zeros(3, np.float32)})
    writer.write_result(None, (np.arange(2), [0.5, 1.5]))
    assert "got 1 values" in raises(ValueError, writer.write_result, None, [1])
    writer.close(None)
    assert config.output_writer.count == 6


def check_rows_are_written_by_position():
    from dl_on_flink_tensorflow.flink_row_writer import FlinkRowWriter

    config = start_run()
    for writer in (config.tf_context.get_row_writer_to_flink(), FlinkRowWriter(config.tf_context)):
        writer.write((1, 0.5))
        writer.write([2, None])
        assert "got 1 values" in raises(ValueError, writer.write, [3])
        writer.close()
    assert config.output_writer.count == 4


def check_stream_config_is_made_of_another():
    from akdl.runner.config import StreamTaskConfig, TrainTaskConfig

    config = start_run(work_dir="/here", dataset_file="rows", dataset_length=0)
    fields = dict(config.__dict__)
    assert StreamTaskConfig(**fields).dataset_fn == config.tf_context.flink_stream_dataset
    assert StreamTaskConfig(dataset_fn=len, **fields).dataset_fn is len
    assert TrainTaskConfig(saved_model_dir="/there", **fields).latest_ckpt_dir is None


def check_dtypes_by_name():
    import tensorflow as tf
    from akdl.engine.inputs import dtype_str_map

    assert dtype_str_map["double"] is tf.float32 and dtype_str_map["boolean"] is tf.bool


def check_model_rows_make_its_directory():
    import base64
    import io
    import zipfile

    from akdl.runner.io_helper import unpack_model_from_flink

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("saved_model.pb", b"graph")
        archive.writestr("../outside", b"no")
    parts = [base64.b64encode(part).decode() for part in (packed.getvalue()[:9], packed.getvalue()[9:])]
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "rows")
        with open(path, "w") as file:
            file.write("2 {}\n0 model.zip\n1 {}\n".format(parts[1], parts[0]))
        work_dir = os.path.join(directory, "work")
        assert unpack_model_from_flink(path, work_dir) == os.path.join(work_dir, "model")
        with open(os.path.join(work_dir, "model", "saved_model.pb"), "rb") as file:
            assert file.read() == b"graph"
        assert sorted(os.listdir(directory)) == ["rows", "work"] and os.listdir(work_dir) == ["model"]
        with open(path, "w") as file:
            file.write("2 {}\n0 model.zip\n".format(parts[1]))
        assert "row 1" in raises(ValueError, unpack_model_from_flink, path, work_dir)


def check_directories_are_copied_whole():
    from akdl.runner.io_helper import file_io_copy_fix, gfile_copy_dir_content

    with tempfile.TemporaryDirectory() as directory:
        source, target = os.path.join(directory, "a"), os.path.join(directory, "b")
        os.makedirs(os.path.join(source, "x", "y"))
        for name in ("one", os.path.join("x", "two")):
            with open(os.path.join(source, name), "w") as file:
                file.write(name)
        gfile_copy_dir_content(source, target)
        gfile_copy_dir_content(source, target)
        found = sorted(os.path.join(folder, name) for folder, _, names in os.walk(target) for name in names)
        assert found == [os.path.join(target, "one"), os.path.join(target, "x", "two")], found
        assert "overwrite" in raises(ValueError, file_io_copy_fix, found[0], found[1])


def check_first_records_are_shown():
    import contextlib
    import io

    import tensorflow as tf
    from akdl.runner import tf_helper

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "rows")
        with tf.io.TFRecordWriter(path) as file:
            for number in range(5):
                file.write(example(number, 0.5).SerializeToString())
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            tf_helper.preview_tfrecords_file(path, 2)
    assert printed.getvalue().count("features") == 2 and printed.getvalue().startswith("0 ")
    tf_helper.set_intra_op_parallelism(2)
    assert tf_helper.gfile.Exists(os.sep) and tf_helper.ConfigProto(gpu_options=tf_helper.GPUOptions())


def check_feature_specs_and_placeholders():
    import tensorflow as tf
    from akdl.engine.inputs import get_feature_placeholders, parse_feature_specs

    columns = [
        {"name": "a", "dtype": "double", "shape": [2]},
        {"name": "b", "dtype": "int", "shape": [], "feature_type": tf.io.VarLenFeature},
        {"name": "c", "dtype": "string", "shape": [], "feature_type": tf.io.FixedLenSequenceFeature},
    ]
    assert parse_feature_specs(columns) == {
        "a": tf.io.FixedLenFeature([2], tf.float32),
        "b": tf.io.VarLenFeature(tf.int64),
        "c": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
    }
    with tf.Graph().as_default():
        found = get_feature_placeholders(columns[:1], "any text, as scripts give it", more=1)
    assert found["a"].shape.as_list() == [1, 2] and found["a"].dtype == tf.float32 and found["a"].op.name == "a"
    message = raises(ValueError, parse_feature_specs, [{"name": "a", "dtype": "money", "shape": []}])
    assert "'a'" in message and "money" in message and "float" in message, message


def check_newest_export_is_found():
    from akdl.runner.io_helper import find_timestamp_dir

    with tempfile.TemporaryDirectory() as directory:
        assert find_timestamp_dir(directory) == directory
        for name in ("999", "1700000000", "temp-1800000000"):
            os.mkdir(os.path.join(directory, name))
        assert find_timestamp_dir(directory) == os.path.join(directory, "1700000000")


def check_checkpoints_are_removed_and_nothing_else():
    from akdl.runner.io_helper import remove_checkpoint_files

    with tempfile.TemporaryDirectory() as directory:
        remove_checkpoint_files(os.path.join(directory, "not_there"))
        for name in ("checkpoint", "model.ckpt-5.index", "events.out.tfevents.1.host", "notes.txt", "my.checkpoint"):
            open(os.path.join(directory, name), "w").close()
        os.makedirs(os.path.join(directory, "export", "latest"))
        os.mkdir(os.path.join(directory, "data"))
        remove_checkpoint_files(directory)
        assert sorted(os.listdir(directory)) == ["data", "my.checkpoint", "notes.txt"]


def main():
    compat.install()
    for name, check in sorted(globals().items()):
        if name.startswith("check_"):
            error = None
            try:
                check()
            except Exception:  # noqa: BLE001 - a check may fail in any way, and the other checks must run
                error = traceback.format_exc()
            print(json.dumps({"check": name, "error": error}), flush=True)


if __name__ == "__main__":
    main()
