"""Run a TensorFlow script over a PCollection, in its own process and its own Python environment.

The map of the rooms, one floor per line; a file imports only from its own room and from floors below:

    cli                   the command line
    transforms, tables    RunTFScript, TrainTFScript, ModelRowsToSavedModel; tables as sources and sinks
    dofns                 wiring between Beam and the feeds: windows, state, timers, dead letters
    feeds                 runs, driven in the feeds `dataset`, `bundles` and `stream`: rows out, outputs back, retries
    options               the arguments: declared once, checked while the pipeline is built
    models, python_env    versions of SavedModels; Python environments of scripts
    io                    sources and sinks of files, whose elements are batches of rows
    worker, cluster       the script process, its channel and pool; tasks, ports and `TF_CONFIG` of a cluster
    data, files           rows <-> Arrow <-> Examples; files of the script, fetched and staged
    metrics, errors       counters; every exception
    runtime               the library inside the script process, which calls `main(config)`

docs/architecture.md follows a record through them.

The script's interpreter imports this file too. It may be as old as Python 3.6, and has neither Beam nor Arrow. So this
file imports nothing, and loads the public names on first use.
"""

__version__ = "0.1.0"

_PUBLIC = {
    "ExampleChunk": "beam_tfscript.data.example_chunk",
    "ModelRowsToSavedModel": "beam_tfscript.transforms.model_rows_to_saved_model",
    "ReadCsv": "beam_tfscript.io.arrow_files",
    "ReadExamples": "beam_tfscript.io.example_files",
    "ReadFromMaxCompute": "beam_tfscript.tables.read_from_maxcompute",
    "ReadJsonLines": "beam_tfscript.io.arrow_files",
    "RunTFScript": "beam_tfscript.transforms.run_tf_script",
    "TFScriptError": "beam_tfscript.errors",
    "TrainTFScript": "beam_tfscript.transforms.train_tf_script",
    "WriteCsv": "beam_tfscript.io.arrow_files",
    "WriteExamples": "beam_tfscript.io.example_files",
    "WriteJsonLines": "beam_tfscript.io.arrow_files",
    "WriteParquet": "beam_tfscript.io.arrow_files",
    "WriteToMaxCompute": "beam_tfscript.tables.write_to_maxcompute",
}

__all__ = [
    "ExampleChunk",
    "ModelRowsToSavedModel",
    "ReadCsv",
    "ReadExamples",
    "ReadFromMaxCompute",
    "ReadJsonLines",
    "RunTFScript",
    "TFScriptError",
    "TrainTFScript",
    "WriteCsv",
    "WriteExamples",
    "WriteJsonLines",
    "WriteParquet",
    "WriteToMaxCompute",
    "__version__",
]

# Type checkers treat this name as true, and see the classes. At run time nothing is imported for them.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from beam_tfscript.data.example_chunk import ExampleChunk as ExampleChunk
    from beam_tfscript.errors import TFScriptError as TFScriptError
    from beam_tfscript.io.arrow_files import ReadCsv as ReadCsv
    from beam_tfscript.io.arrow_files import ReadJsonLines as ReadJsonLines
    from beam_tfscript.io.arrow_files import WriteCsv as WriteCsv
    from beam_tfscript.io.arrow_files import WriteJsonLines as WriteJsonLines
    from beam_tfscript.io.arrow_files import WriteParquet as WriteParquet
    from beam_tfscript.io.example_files import ReadExamples as ReadExamples
    from beam_tfscript.io.example_files import WriteExamples as WriteExamples
    from beam_tfscript.tables.read_from_maxcompute import ReadFromMaxCompute as ReadFromMaxCompute
    from beam_tfscript.tables.write_to_maxcompute import WriteToMaxCompute as WriteToMaxCompute
    from beam_tfscript.transforms.model_rows_to_saved_model import ModelRowsToSavedModel as ModelRowsToSavedModel
    from beam_tfscript.transforms.run_tf_script import RunTFScript as RunTFScript
    from beam_tfscript.transforms.train_tf_script import TrainTFScript as TrainTFScript
else:

    def __getattr__(name):
        if name not in _PUBLIC:
            raise AttributeError(f"module 'beam_tfscript' has no attribute {name!r}")
        import importlib

        try:
            module = importlib.import_module(_PUBLIC[name])
        except AttributeError as error:
            # `from beam_tfscript import …` would report an AttributeError as a missing name, without the cause.
            raise ImportError(
                f"beam_tfscript.{name} cannot be imported: {error}. A package that it needs has a version that does "
                "not fit: `pip check` says which."
            ) from error
        return getattr(module, name)


def __dir__():
    return sorted(__all__)
