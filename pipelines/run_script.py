"""Beam pipeline of any TensorFlow script: rows of files in, the rows that the script writes out, as files.

    python -m pipelines.run_script --script SCRIPT --input FILES --output PREFIX --output_schema "id string, x float"

It is the pipeline of the Dataflow flex template: the launcher starts this file, and gives the template's parameters as
flags. `--help` lists them; docs/submit.md has the commands that build and run the template. Parameters are those of
`beam-tfscript run`, as single texts, and all other flags are Beam's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from apache_beam.options.pipeline_options import GoogleCloudOptions

from beam_tfscript.cli import advice, job, template_parameters
from beam_tfscript.errors import TFScriptError

__all__ = ["main"]

_PROGRAM = "run_script"


def main(argv: Sequence[str] | None = None) -> int:
    """Build the pipeline and run it; the command line's function.

    Returns:
      The exit status: 0 for success; 1 if a parameter cannot be used, or if the job fails.
    """
    logging.basicConfig()
    for name in ("beam_tfscript", "apache_beam.runners.dataflow"):
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        _run(template_parameters.parse(argv, program=_PROGRAM))
    except (TFScriptError, RuntimeError) as error:
        cause = advice.find_cause(error)
        if cause is None:
            raise
        print(f"{_PROGRAM}: {type(cause).__name__}: {template_parameters.rename(str(cause))}", file=sys.stderr)
        return 1
    return 0


def _run(request: template_parameters.Request) -> None:
    files, arguments = request.files, request.arguments
    source = job.find_input(files["input"], files.get("input_format"), arguments.get("input_schema"))
    output = job.find_output(files["output"], files.get("output_format"), source)
    pipeline = job.make_pipeline(request.beam_flags)
    rows = job.read_rows(pipeline, source)
    arguments = {**arguments, "input_schema": source.schema}
    job.add_script(rows, arguments, output, resource_hints=request.resource_hints)
    result = pipeline.run()
    # A launcher only wants the job's description: it starts the job itself, when this program has ended.
    if pipeline.options.view_as(GoogleCloudOptions).template_location is None:
        result.wait_until_finish()


if __name__ == "__main__":
    sys.exit(main())
