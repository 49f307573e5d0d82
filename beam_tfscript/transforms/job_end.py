"""Calls functions in the submitting process when a job has ended, however it ended.

Beam has no hook for it. A failed or cancelled job runs no more stages, so nothing in the graph can clean up after it.
The process that submits a pipeline usually waits for its end, as `with beam.Pipeline()` does. So the pipeline's `run`
is wrapped, for this pipeline object only, and so is the `wait_until_finish` of its result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.runners.runner import PipelineState

_ATTRIBUTE = "_beam_tfscript_at_end"


def call_at_end(pipeline: beam.Pipeline, function: Callable[[], None]) -> None:
    """Call a function when a run of the pipeline has ended: done, failed or cancelled, and seen by this process.

    Args:
      pipeline: a pipeline that has not been run.
      function: called once per run; it must raise nothing.
    """
    functions = getattr(pipeline, _ATTRIBUTE, None)
    if functions is None:
        functions = []
        setattr(pipeline, _ATTRIBUTE, functions)
        pipeline.run = _wrap_run(pipeline.run, functions)
    functions.append(function)


def _wrap_run(run: Callable[..., Any], functions: list[Callable[[], None]]) -> Callable[..., Any]:
    @functools.wraps(run)
    def run_and_watch(*args: Any, **kwargs: Any) -> Any:
        try:
            result = run(*args, **kwargs)
        except BaseException:
            _call(functions)  # a runner that runs the whole job here
            raise
        if PipelineState.is_terminal(result.state):
            _call(functions)
            return result
        wait = result.wait_until_finish

        @functools.wraps(wait)
        def wait_until_finish(*args: Any, **kwargs: Any) -> Any:
            try:
                return wait(*args, **kwargs)
            finally:
                if PipelineState.is_terminal(result.state):
                    _call(functions)

        result.wait_until_finish = wait_until_finish
        return result

    return run_and_watch


def _call(functions: list[Callable[[], None]]) -> None:
    for function in functions:
        function()
