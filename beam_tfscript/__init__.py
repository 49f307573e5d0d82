"""Run a TensorFlow script over a PCollection, in its own process and its own Python environment.

The map of the rooms, in the order in which a record meets them:

    transforms   RunTFScript: the arguments; training: TrainTFScript; graph: the stages that both expand to
    options      the arguments, checked while the pipeline is built
    chunk_dofns  rows -> (shard, chunk), before the shuffle
    beam_types   Beam's schemas <-> ours
    data/        schema, rows <-> Arrow <-> Examples, TFRecord files
    dofns        the life of a bundle in the feeds `dataset` and `bundles`
    stream_dofns the same in `stream`: stream_feed feeds a run, and the next if it dies; live_run is the run
    script/      the script's files and its interpreter
    worker/      the script process, the channel to it, the pool of them, and the guardian that outlives a killed worker
    cluster/     who is who in a TensorFlow cluster; task_group runs one in `dataset`, live_run in `stream`
    runtime/     what runs inside the script process: `main(config)` is called there
    model_store  where models are published
    command/     the command line
    metrics      what is counted
    errors       every exception, and whose fault it is

This file is also imported by the script's interpreter, which may be as old as Python 3.6 and has
neither Beam nor Arrow: it imports nothing, and its public names are loaded when they are asked for.
"""

__version__ = "0.1.0"

_PUBLIC = {
    "ModelRowsToSavedModel": "beam_tfscript.transforms.model_rows_to_saved_model",
    "RunTFScript": "beam_tfscript.transforms.run_tf_script",
    "TrainTFScript": "beam_tfscript.transforms.train_tf_script",
    "TFScriptError": "beam_tfscript.errors",
}

__all__ = ["ModelRowsToSavedModel", "RunTFScript", "TFScriptError", "TrainTFScript", "__version__"]

# Type checkers take the name for true and see the classes; nothing is imported for them.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from beam_tfscript.errors import TFScriptError as TFScriptError
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
            # `from beam_tfscript import …` would take it for a name that is missing here, and not tell the cause.
            raise ImportError(
                f"beam_tfscript.{name} cannot be imported: {error}. Some package that it needs is of a version that "
                "does not fit: `pip check` says which."
            ) from error
        return getattr(module, name)


def __dir__():
    return sorted(__all__)
