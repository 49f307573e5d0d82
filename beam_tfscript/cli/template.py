"""Metadata of the Dataflow template, from its parameters: pipelines/run_script_metadata.json.

python -m beam_tfscript.cli.template > pipelines/run_script_metadata.json

The service checks parameters by the metadata, and the console makes a form of them. The keys are those of
https://cloud.google.com/dataflow/docs/reference/rest/v1b3/TemplateMetadata.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from beam_tfscript.cli.template_parameters import PARAMETERS, Parameter

_LABELS = {"num_ps": "Parameter servers", "sdk_container_image": "SDK container image"}


def metadata() -> dict[str, Any]:
    """Return the template's metadata."""
    ordered = sorted(PARAMETERS, key=lambda parameter: not parameter.is_required)
    return {
        "name": "TensorFlow script over files",
        "description": "Runs a TensorFlow script over rows of files, and writes the rows that the script writes.",
        "streaming": False,
        "parameters": [_describe(parameter) for parameter in ordered],
    }


def _describe(parameter: Parameter) -> dict[str, Any]:
    form = parameter.form
    described: dict[str, Any] = {
        "name": parameter.name,
        "label": _LABELS.get(parameter.name, parameter.name.replace("_", " ").capitalize()),
        "helpText": parameter.help[0].upper() + parameter.help[1:] + ".",
        "groupName": parameter.group.capitalize(),
        "isOptional": not parameter.is_required,
        "paramType": form.param_type,
    }
    if form.regex:
        described["regexes"] = [form.regex]
    if form.choices:
        described["enumOptions"] = [{"value": text, "label": text} for text in form.choices]
    if parameter.default:
        described["defaultValue"] = parameter.default
    return described


def text() -> str:
    """Return the metadata's file."""
    return json.dumps(metadata(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
