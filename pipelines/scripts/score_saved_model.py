"""Scores rows with any SavedModel, by one of its signatures.

Rows in: the columns that the signature takes, and any others. Rows out, one for each: what `output_schema` names, which
is outputs of the signature, and columns of the input that are handed on, such as an id.

    rows | RunTFScript(
        main_script_file="score_saved_model.py",
        input_schema="id string, x float",
        output_schema="id string, y float",
        user_params={"model_dir": "/models/half_plus_two", "signature": "predict"},
    )

`user_params`:
    model_dir     a SavedModel, or a directory with numbered versions of one, of which the newest is taken; a path that
                  TensorFlow can read, or the name of a directory among `user_files`
    signature     predict, classify, regress, serving_default (if not given) … whatever the model calls it
    inputs        {"the signature's input": "column"}, where names differ; not needed where one of each is left
    outputs       {"output column": "the signature's output"}, likewise
    batch_size    rows for one call of the model; 1024 if not given
    look_every_s  how often a long run looks for a newer version, between batches; 30 if not given

A signature whose one input is a vector of strings is given the rows as serialized Examples, unless `inputs`, or
a column of the same name, says which column it takes.
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
    """Writes a row for each row."""
    params = read_params(config.user_params)
    models = NewestModel(params, config)
    try:
        for examples, columns in read_batches(config, params["batch_size"], models.current.plan):
            models.look()
            config.write_batch(**models.current.score(examples, columns))
    finally:
        models.close()


def read_params(given):
    """The parameters with their defaults filled in."""
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown or not given.get("model_dir"):
        raise ValueError(
            f"user_params must have model_dir, and may have {', '.join(sorted(set(DEFAULTS) - {'model_dir'}))}; "
            f"got {', '.join(sorted(given)) or 'none'}"
        )
    return dict(DEFAULTS, **given)


def read_batches(config, size, plan):
    """(serialized Examples, columns) of each batch; those that the model has no use for are None."""
    if not plan.takes_examples:
        for columns in config.batches(size):
            yield None, columns
        return
    parser = RecordParser(config.input_schema, masks=False) if plan.handed_on else None
    try:
        for examples in read_examples(config, size):
            yield examples, None if parser is None else parser.parse(examples)
    finally:
        if parser is not None:
            parser.close()


def read_examples(config, size):
    """The rows as lists of up to `size` serialized Examples."""
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
    """The newest version of a model, looked for from time to time; `current` is the one that is loaded."""

    def __init__(self, params, config):
        self._params = params
        self._config = config
        self._next_look = time.time() + params["look_every_s"]
        self.version, path = saved_model.find_newest_version(params["model_dir"])
        self.current = Model(path, params, config)
        print(f"scores with signature {params['signature']} of {path}")

    def look(self):
        """Moves to a newer version, if it is time to look and there is one that can be used."""
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
                raise ValueError(f"{path}: its signature is called in another way")
        except (ValueError, tf.errors.OpError) as error:
            # The version at hand goes on to be good; what is wrong with the other may be put right.
            print(f"stays with version {self.version} of {self._params['model_dir']}: {error}")
            return
        print(f"moves from version {self.version} to {version} of {self._params['model_dir']}")
        self.current.close()
        self.version, self.current = version, newer

    def close(self):
        """Lets go of the model."""
        self.current.close()


class Model:
    """A SavedModel that is loaded, and how rows are put into it."""

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
        """Output column -> array, for one batch."""
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
        scored.update((name, columns[name]) for name in self.plan.handed_on)
        return scored

    def close(self):
        """Lets go of the model."""
        self._session.close()


class Plan:
    """Which column goes into which input, and which output or column makes which output column.

    Attributes:
      takes_examples: whether the signature takes serialized Examples.
      inputs: the signature's input -> column; None for serialized Examples.
      outputs: output column -> the signature's output.
      handed_on: output columns that are columns of the input.
    """

    def __init__(self, signature, input_schema, output_schema, params):
        if output_schema is None:
            raise ValueError("nothing to score for: give the transform an output_schema")
        columns = [] if input_schema is None else input_schema.names
        wanted = output_schema.names
        self.takes_examples = takes_examples(signature, columns, params["inputs"])
        known = set(signature.outputs) | set(params["outputs"])
        self.handed_on = [name for name in wanted if name in columns and name not in known]
        if self.takes_examples:
            self.inputs = dict.fromkeys(signature.inputs)
        else:
            free = [name for name in columns if name not in self.handed_on]
            self.inputs = match(sorted(signature.inputs), columns, free, params["inputs"], "inputs")
        wanted = [name for name in wanted if name not in self.handed_on]
        given = sorted(signature.outputs)
        self.outputs = match(wanted, given, given, params["outputs"], "outputs")


def takes_examples(signature, columns, given):
    """Whether a signature takes serialized Examples."""
    if signature.method_name in EXAMPLES_METHODS:
        return True
    if len(signature.inputs) != 1:
        return False
    ((name, info),) = signature.inputs.items()
    is_vector = info.tensor_shape.unknown_rank or len(info.tensor_shape.dim) == 1
    return info.dtype == tf.string.as_datatype_enum and is_vector and name not in columns and name not in given


def match(wanted, available, free, given, kind):
    """wanted name -> available name: as given, else the same name, else the one that is left for the one that is."""
    found = {name: given.get(name, name) for name in wanted if name in given or name in available}
    missing = [name for name in wanted if name not in found]
    left = [name for name in free if name not in found.values()]
    if len(missing) == len(left) == 1:
        found[missing.pop()] = left.pop()
    strange = sorted(set(found.values()) - set(available)) + sorted(set(given) - set(wanted))
    if missing or strange:
        raise ValueError(
            f"{kind}: {', '.join(wanted)} cannot be matched with {', '.join(available) or 'nothing'}; it is not clear "
            f'what {(strange + missing)[0]} is. Say which is which in user_params["{kind}"]'
        )
    return {name: found[name] for name in wanted}


def fit_input(name, values, info):
    """A column as the model's input wants it: its dtype, and its shape where that is only another way to say it."""
    dtype = np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype)
    values = np.asarray(values)
    if values.dtype.kind == "O" and dtype.kind != "O":
        lengths = sorted({len(value) if hasattr(value, "__len__") else 0 for value in values})
        if len(lengths) > 1:
            raise ValueError(f'input "{name}" of the model takes rows of one length, and there are {lengths}')
        values = np.stack(values)
    if values.dtype != dtype:
        cast = values.astype(dtype) if np.can_cast(values.dtype, dtype, "same_kind") else None
        # A number that a smaller integer does not hold would be another one.
        if cast is None or (dtype.kind in "iu" and (cast != values).any()):
            raise ValueError(f'input "{name}" of the model is {dtype}, and a column of {values.dtype} does not fit')
        values = cast
    shape = None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim]
    if shape is None or -1 in shape[1:] or list(values.shape[1:]) == shape[1:]:
        return values
    if np.prod(shape[1:]) != np.prod(values.shape[1:]):
        raise ValueError(f'input "{name}" of the model takes {shape[1:]} a row, and the column has {values.shape[1:]}')
    return values.reshape([len(values)] + shape[1:])


def as_objects(records):
    """An array of bytes; numpy's own way of it would cut off zeros at the end."""
    values = np.empty(len(records), dtype=object)
    values[:] = records
    return values
