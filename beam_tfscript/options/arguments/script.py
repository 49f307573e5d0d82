"""Arguments about the script: its file, the files beside it, its parameters and its Python environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.uris import mask_uri
from beam_tfscript.options.arguments import checks
from beam_tfscript.options.arguments.argument import Argument, Flag, attribute
from beam_tfscript.options.arguments.masking import join, mask_command_line, mask_json, name_file
from beam_tfscript.python_env.python_env import PythonEnv

COMPAT_FORMS = ("strings",)

_SCRIPT = "script"
_PYTHON = "the script's Python"


def _requirement_lines(values: Sequence[str]) -> list[str]:
    """Return lines of requirements; the name of a requirements file stands for its lines."""
    lines = []
    for value in values:
        if value.endswith(".txt") and os.path.exists(value):
            with open(value, encoding="utf-8") as file:
                lines += [line.strip() for line in file if line.strip() and not line.lstrip().startswith("#")]
        else:
            lines.append(value)
    return lines


def _variables(texts: Sequence[str]) -> dict[str, str]:
    """Return environment variables from `NAME=VALUE` texts."""
    variables = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            # The text is not shown: it may be the value of a variable whose name was forgotten.
            raise ArgumentError(f"--env must be NAME=VALUE, got {'no name' if equals else 'no equals sign'}.")
        variables[name] = value
    return variables


def _level(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


MAIN_SCRIPT_FILE = Argument(
    "main_script_file",
    str,
    "the Python file that defines `main(config)`; a local path or a URI (docs/uris.md).",
    check=checks.script_file,
    show=lambda options: name_file(options.script),
    flag=Flag("", "SCRIPT", name="script"),
)
USER_FILES = Argument(
    "user_files",
    Sequence[str],
    "files that the script needs beside it, where they are read-only. Archives (.zip, .tar.gz, .tgz, .tar) are "
    "unpacked there, and directories are copied as a whole. Local files and directories of up to 1 MiB each, and 4 MiB "
    "together, travel in the job graph; larger ones travel as artifacts of the job. Modules that a local script "
    "imports from its own folder need not be named.",
    default=(),
    check=checks.texts,
    show=lambda options: join(name_file(file) for file in options.files if file != options.script),
    flag=Flag(_SCRIPT, "URI", name="--user-file", is_list=True, parse=list),
)
USER_PARAMS = Argument(
    "user_params",
    Any,
    "any JSON value, or its text, that the script finds as `config.user_params`. Scalars and arrays of numpy become "
    "plain values.",
    default=None,
    show=lambda options: mask_json(options.user_params),
    flag=Flag(_SCRIPT, "JSON"),
)
COMPAT_PARAMS = Argument(
    "compat_params",
    str | None,
    '`"strings"` to pass each value of `user_params` as a string, as scripts for other platforms expect '
    "(docs/compat.md); None keeps JSON's types.",
    default=None,
    choices=COMPAT_FORMS,
    field="compat_params",
    show=attribute("compat_params"),
    flag=Flag(_SCRIPT),
)
ENTRY = Argument(
    "entry",
    str,
    "name of the function to call.",
    default="main",
    check=checks.function_name,
    field="entry",
    show=attribute("entry"),
    flag=Flag(_SCRIPT, "NAME"),
)
SCRIPT_ARGS = Argument(
    "script_args",
    Sequence[str],
    "`sys.argv[1:]` of the script.",
    default=(),
    check=checks.texts,
    field="script_args",
    show=lambda options: join(mask_command_line(options.script_args), " "),
    flag=Flag(_SCRIPT, "ARG", name="--script-arg", is_list=True, parse=list),
)
ENV = Argument(
    "env",
    Mapping[str, str] | None,
    "environment variables of the script process. Their values are not shown on the job's page.",
    default=None,
    show=lambda options: join(sorted(options.env)),
    flag=Flag(_SCRIPT, "K=V", is_list=True, parse=_variables),
)
LOG_LEVEL = Argument(
    "log_level",
    str | int,
    'the level at which lines that the script prints are logged; a name such as `"WARNING"`, or a number '
    "(https://docs.python.org/3/library/logging.html#logging-levels). Lines at INFO are shown only if the "
    "pipeline's program, or its runner, asks for that level. A record of Python's `logging`, or a line of "
    "TensorFlow's C++ code, keeps its own level.",
    default="INFO",
    check=checks.level,
    field="log_level",
    show=lambda options: None if options.log_level == logging.INFO else logging.getLevelName(options.log_level),
    flag=Flag(_SCRIPT, "LEVEL", parse=_level),
)
LOG_DIR = Argument(
    "log_dir",
    str | None,
    "a path or URI where the files that scripts write to `config.log_dir` are kept. Each attempt of a run has a "
    "directory of its own there. None removes the files with the run.",
    default=None,
    check=checks.path_or_uri,
    show=lambda options: None if options.log_dir is None else mask_uri(options.log_dir),
    flag=Flag(_SCRIPT, "URI"),
)
INTRA_OP_PARALLELISM = Argument(
    "intra_op_parallelism",
    int,
    "number of threads in TensorFlow's and OpenMP's pools of the script process, set before `main`; 0 leaves the "
    "numbers unset. TensorFlow's pool: "
    "https://www.tensorflow.org/api_docs/python/tf/config/threading/set_intra_op_parallelism_threads.",
    default=4,
    check=checks.whole_number(0),
    field="intra_op_parallelism",
    show=attribute("intra_op_parallelism"),
    flag=Flag(_SCRIPT, "N", parse=int),
)
ACCELERATORS_PER_PROCESS = Argument(
    "accelerators_per_process",
    float | None,
    "number of GPUs that a script process has to itself, in `CUDA_VISIBLE_DEVICES`. A fraction such as 0.5 or 0.25 if "
    "several processes share one GPU; 0 for none. A run waits until so many are free on its machine. In a cluster, "
    "only the chief and the workers get GPUs. None for no limit: each process sees what the worker sees. More: "
    "docs/guide.md.",
    default=None,
    check=checks.share(0.01),
    field="accelerators_per_process",
    show=attribute("accelerators_per_process"),
    flag=Flag(_SCRIPT, "N", parse=float),
)
PYTHON_ENV = Argument(
    "python_env",
    str | None,
    "the Python that runs the script: a directory with `bin/python`, or an archive of one by any URI. "
    "`worker:///opt/script` is a directory that only the workers have, as in their image. None for the worker's own "
    "interpreter. More: docs/environments.md.",
    default=None,
    show=lambda options: None if options.python_env == PythonEnv() else str(options.python_env),
    flag=Flag(_PYTHON, "URI"),
)
REQUIREMENTS = Argument(
    "requirements",
    Sequence[str] | None,
    "packages of an environment that each machine builds once, in place of `python_env`. Each is a line of a "
    'requirements file, such as `"tensorflow==2.3.4"`.',
    default=None,
    flag=Flag(_PYTHON, "LINE", is_list=True, parse=_requirement_lines, note="or the name of a .txt file of such lines"),
)
PYTHON_VERSION = Argument(
    "python_version",
    str | None,
    'the Python of the environment that is built, such as `"3.8"`; None for the version of the worker\'s Python.',
    default=None,
    flag=Flag(_PYTHON, "3.8"),
)

SCRIPT = (
    MAIN_SCRIPT_FILE, USER_FILES, USER_PARAMS, COMPAT_PARAMS, ENTRY, SCRIPT_ARGS, ENV, INTRA_OP_PARALLELISM,
    ACCELERATORS_PER_PROCESS, PYTHON_ENV, REQUIREMENTS, PYTHON_VERSION, LOG_LEVEL, LOG_DIR,
)  # fmt: skip
