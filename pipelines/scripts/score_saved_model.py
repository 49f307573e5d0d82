"""Script that scores rows with any SavedModel, by one of its signatures.

Rows in: columns for the signature's inputs, and any others. Rows out, one for each: the columns of `output_schema`.
These are outputs of the signature, and columns of the input that are passed on, such as an id.

    rows | RunTFScript(
        main_script_file="score_saved_model.py",
        input_schema="id string, x float",
        output_schema="id string, y float",
        user_params={"model_dir": "/models/half_plus_two", "signature": "predict"},
    )

`user_params`:
    model_dir     a SavedModel, or a directory with numbered versions of one, of which the newest is used; a path that
                  TensorFlow can read, or the name of a directory in `user_files`
    signature     name of the signature, such as predict, classify or regress; serving_default if not given
    inputs        {"the signature's input": "column"}, if names differ; not needed if one of each is left
    outputs       {"output column": "the signature's output"}, likewise
    batch_size    rows per call of the model; 1024 if not given
    look_every_s  seconds between two checks for a newer version, between batches; 30 if not given

If the signature's only input is a vector of strings, it gets the rows as serialized Examples. `inputs`, or a column of
the input's name, overrides this.
"""

import time

import numpy as np
import tensorflow as tf

from beam_tfscript.runtime.reading.record_parser import RecordParser
from beam_tfscript.runtime.tf import saved_model

DEFAULTS = {
    "model_dir": None,
    "signature": "serving_default",
    "inputs": {},
    "outputs": {},
    "batch_size": 1024,
    "look_every_s": 30,
}
EXAMPLES_METHODS = ("tensorflow/serving/classify", "tensorflow/serving/regress")


def main(config):
    """Write one row for each row."""
    params = read_params(config.user_params)
    models = NewestModel(params, config)
    try:
        for examples, columns in read_batches(config, params["batch_size"], models.current.plan):
            models.look()
            config.write_batch(**models.current.score(examples, columns))
    finally:
        models.close()


def read_params(given):
    """Return the parameters, with their defaults.

    Raises:
      ValueError: `model_dir` is missing, or a parameter is unknown.
    """
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown or not given.get("model_dir"):
        raise ValueError(
            f"user_params must have model_dir, and may have {', '.join(sorted(set(DEFAULTS) - {'model_dir'}))}; "
            f"got {', '.join(sorted(given)) or 'none'}"
        )
    return dict(DEFAULTS, **given)


def read_batches(config, size, plan):
    """Yield (serialized Examples, columns) of each batch; one that the model does not need is None."""
    if not plan.takes_examples:
        for columns in config.batches(size):
            yield None, columns
        return
    parser = RecordParser(config.input_schema, masks=False) if plan.passed_on else None
    try:
        for examples in read_examples(config, size):
            yield examples, None if parser is None else parser.parse(examples)
    finally:
        if parser is not None:
            parser.close()


def read_examples(config, size):
    """Yield the rows as lists of up to `size` serialized Examples."""
    if hasattr(config, "example_batches"):
        for examples in config.example_batches(size):
            yield examples
        return
    examples = []
    for record in tf.compat.v1.io.tf_record_iterator(config.dataset_file):
        examples.append(record)
        if len(examples) == size:
            yield examples
            examples = []
    if examples:
        yield examples


class NewestModel:
    """Newest version of a model, checked from time to time; `current` is the loaded one."""

    def __init__(self, params, config):
        self._params = params
        self._config = config
        self._next_look = time.time() + params["look_every_s"]
        self.version, path = saved_model.find_newest_version(params["model_dir"])
        self.current = Model(path, params, config)
        print(f"scores with signature {params['signature']} of {path}")

    def look(self):
        """Move to a newer version, if a check is due and there is a usable one."""
        if self.version is None or time.time() < self._next_look:
            return
        self._next_look = time.time() + self._params["look_every_s"]
        try:
            version, path = saved_model.find_newest_version(self._params["model_dir"])
            if version is None or version <= self.version:
                return
            newer = Model(path, self._params, self._config)
            if newer.plan.takes_examples != self.current.plan.takes_examples:
                newer.close()
                raise ValueError(f"{path}: its signature takes other inputs")
        except (ValueError, tf.errors.OpError) as error:
            # The loaded version stays usable, and the newer one may be repaired.
            print(f"stays with version {self.version} of {self._params['model_dir']}: {error}")
            return
        print(f"moves from version {self.version} to {version} of {self._params['model_dir']}")
        self.current.close()
        self.version, self.current = version, newer

    def close(self):
        """Close the model."""
        self.current.close()


class Model:
    """Loaded SavedModel, with the plan that maps rows to its inputs."""

    def __init__(self, path, params, config):
        signatures = saved_model.read_signatures(path)
        if params["signature"] not in signatures:
            raise ValueError(f"{path} has no signature {params['signature']!r}; it has {', '.join(signatures)}")
        signature = signatures[params["signature"]]
        self.plan = Plan(signature, config.input_schema, config.output_schema, params)
        self._inputs = [signature.inputs[name] for name in self.plan.inputs]
        self._session = saved_model.open_session(path)
        self._call = self._session.make_callable(
            [signature.outputs[name].name for name in self.plan.outputs.values()],
            feed_list=[self._session.graph.get_tensor_by_name(info.name) for info in self._inputs],
        )

    def score(self, examples, columns):
        """Score one batch: return a dict, output column -> array."""
        if self.plan.takes_examples:
            values = [as_objects(examples)]
        else:
            values = [
                fit_input(name, columns[column], info)
                for (name, column), info in zip(self.plan.inputs.items(), self._inputs)
            ]
        scored = dict(zip(self.plan.outputs, self._call(*values)))
        rows = len(values[0])
        for name, value in scored.items():
            if value.shape[:1] != (rows,):
                output = self.plan.outputs[name]
                raise ValueError(f'output "{output}" of the model has shape {value.shape} for {rows} rows')
        scored.update((name, columns[name]) for name in self.plan.passed_on)
        return scored

    def close(self):
        """Close the model."""
        self._session.close()


class Plan:
    """Plan of a model's calls: the column of each input, and the source of each output column.

    Attributes:
      takes_examples: True if the signature takes serialized Examples.
      inputs: the signature's input -> column; None for serialized Examples.
      outputs: output column -> the signature's output.
      passed_on: output columns that are columns of the input.
    """

    def __init__(self, signature, input_schema, output_schema, params):
        if output_schema is None:
            raise ValueError("no output columns: give the transform an output_schema")
        columns = [] if input_schema is None else input_schema.names
        wanted = output_schema.names
        self.takes_examples = takes_examples(signature, columns, params["inputs"])
        known = set(signature.outputs) | set(params["outputs"])
        self.passed_on = [name for name in wanted if name in columns and name not in known]
        if self.takes_examples:
            self.inputs = dict.fromkeys(signature.inputs)
        else:
            free = [name for name in columns if name not in self.passed_on]
            self.inputs = match(sorted(signature.inputs), columns, free, params["inputs"], "inputs")
        wanted = [name for name in wanted if name not in self.passed_on]
        given = sorted(signature.outputs)
        self.outputs = match(wanted, given, given, params["outputs"], "outputs")


def takes_examples(signature, columns, given):
    """Return True if a signature takes serialized Examples."""
    if signature.method_name in EXAMPLES_METHODS:
        return True
    if len(signature.inputs) != 1:
        return False
    ((name, info),) = signature.inputs.items()
    is_vector = info.tensor_shape.unknown_rank or len(info.tensor_shape.dim) == 1
    return info.dtype == tf.string.as_datatype_enum and is_vector and name not in columns and name not in given


def match(wanted, available, free, given, kind):
    """Match names: return a dict, wanted name -> available name.

    A name goes to the given one, else to the same name. If one wanted and one free name are left, they match.

    Raises:
      ValueError: a wanted name has no match, or a given name is unknown.
    """
    found = {name: given.get(name, name) for name in wanted if name in given or name in available}
    missing = [name for name in wanted if name not in found]
    left = [name for name in free if name not in found.values()]
    if len(missing) == len(left) == 1:
        found[missing.pop()] = left.pop()
    unknown = sorted(set(found.values()) - set(available)) + sorted(set(given) - set(wanted))
    if missing or unknown:
        raise ValueError(
            f"{kind}: {', '.join(wanted)} cannot be matched with {', '.join(available) or 'nothing'}; there is no "
            f'match for {(unknown + missing)[0]}. Name the matches in user_params["{kind}"]'
        )
    return {name: found[name] for name in wanted}


def fit_input(name, values, info):
    """Convert a column to the dtype of the model's input, and reshape it if the number of values is the same.

    Raises:
      ValueError: the column does not fit the input.
    """
    dtype = np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype)
    values = np.asarray(values)
    if values.dtype.kind == "O" and dtype.kind != "O":
        lengths = sorted({len(value) if hasattr(value, "__len__") else 0 for value in values})
        if len(lengths) > 1:
            raise ValueError(f'input "{name}" of the model takes rows of one length, and there are {lengths}')
        values = np.stack(values)
    if values.dtype != dtype:
        cast = values.astype(dtype) if np.can_cast(values.dtype, dtype, "same_kind") else None
        # A cast to a smaller integer type would wrap a number that is out of range.
        if cast is None or (dtype.kind in "iu" and (cast != values).any()):
            raise ValueError(f'input "{name}" of the model is {dtype}, and a column of {values.dtype} does not fit')
        values = cast
    shape = None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim]
    if shape is None or -1 in shape[1:] or list(values.shape[1:]) == shape[1:]:
        return values
    if np.prod(shape[1:]) != np.prod(values.shape[1:]):
        raise ValueError(
            f'input "{name}" of the model takes {shape[1:]} per row, and the column has {values.shape[1:]}'
        )
    return values.reshape([len(values)] + shape[1:])


def as_objects(records):
    """Return an object array of bytes; numpy's fixed-width strings would cut zero bytes at the end."""
    values = np.empty(len(records), dtype=object)
    values[:] = records
    return values
