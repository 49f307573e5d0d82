"""The declaration of the transforms' arguments: signatures, docstrings, flags and the reference page equal it."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import pathlib
import pickle

import pytest

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.cli.arguments import add_script_flags, transform_arguments
from beam_tfscript.errors import ArgumentError
from beam_tfscript.options import reference
from beam_tfscript.options.arguments.argument import REQUIRED
from beam_tfscript.options.arguments.runs import MAX_ATTEMPTS
from beam_tfscript.options.arguments.signatures import RUN_TF_SCRIPT, TRAIN_TF_SCRIPT
from beam_tfscript.options.script_options import ScriptOptions, TransformOptions
from tests.running import script

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "arguments.md"
TRANSFORMS = [(RunTFScript, RUN_TF_SCRIPT), (TrainTFScript, TRAIN_TF_SCRIPT)]
each_transform = pytest.mark.parametrize(("transform", "declared"), TRANSFORMS, ids=["RunTFScript", "TrainTFScript"])


@each_transform
def test_signature_equals_the_declaration(transform, declared):
    parameters = inspect.signature(transform).parameters.values()
    assert [(it.name, it.annotation, it.default) for it in parameters] == [
        (argument.name, argument.annotation, argument.default) for argument in declared
    ]
    # 60 == 60.0 and 0 == False, but a reader would see another default.
    assert [type(it.default) for it in parameters] == [type(argument.default) for argument in declared]


@each_transform
def test_docstring_equals_the_declaration(transform, declared):
    """`python -m beam_tfscript.options.reference RunTFScript` prints the text to paste."""
    _, begin, rest = transform.__doc__.partition("    Args:\n")
    told = begin + rest.partition("\n\n")[0]
    assert told == reference.docstring_args(transform.__name__)


def test_reference_page_is_current():
    assert PAGE.read_text("utf-8") == reference.page(), "python -m beam_tfscript.options.reference writes it"


def test_reference_page_has_each_argument_of_each_transform():
    told = [argument for group in reference.GROUPS.values() for argument in group]
    for argument in (*RUN_TF_SCRIPT, *TRAIN_TF_SCRIPT):
        assert told.count(argument) == 1, argument.name


@each_transform
def test_default_passes_its_own_check(transform, declared):
    for argument in declared:
        if argument.default is not REQUIRED:
            argument.check_value(argument.default)


def test_each_field_of_an_argument_is_a_field_of_the_options():
    fields = {field.name for field in dataclasses.fields(TransformOptions)}
    assert {argument.field for argument in RUN_TF_SCRIPT if argument.field} <= fields


def test_summaries_are_short_enough_for_the_help_of_a_flag():
    for argument in RUN_TF_SCRIPT:
        if argument.flag is not None:
            assert len(argument.summary) < 120 and "`" not in argument.summary, argument.summary


def parse(*flags):
    """Return the arguments that flags of the command line give."""
    parser = argparse.ArgumentParser()
    add_script_flags(parser)
    return transform_arguments(parser.parse_args(["score.py", *flags]), input_schema="id string")


def test_flags_that_are_not_given_leave_the_defaults_to_the_transform():
    assert parse() == {"main_script_file": "score.py", "input_schema": "id string"}


def test_flags_are_parsed_into_arguments(tmp_path):
    (tmp_path / "needed.txt").write_text("# for the script\nnumpy\n\nscipy>=1\n")
    arguments = parse(
        "--selected-cols=a, b", "--num-workers=2", "--num-ps=1", "--ps-main", "--placement=one_host", "--env=A=1",
        "--env=B=x=y", "--user-file=a.txt", "--user-file=b.txt", "--script-arg=--x", "--log-level=30",
        "--start-timeout=5", "--compat-params=strings", "--intra-op-parallelism=0",
        "--accelerators-per-process=0.5",
        f"--requirements={tmp_path}/needed.txt", "--requirements=pandas", "--python-version=3.8", "--entry=go",
    )  # fmt: skip
    assert arguments == {
        "main_script_file": "score.py", "input_schema": "id string", "selected_cols": ["a", "b"], "num_workers": 2,
        "num_ps": 1, "ps_main": True, "placement": "one_host", "env": {"A": "1", "B": "x=y"},
        "user_files": ["a.txt", "b.txt"], "script_args": ["--x"], "log_level": 30, "start_timeout": 5.0,
        "compat_params": "strings", "intra_op_parallelism": 0, "requirements": ["numpy", "scipy>=1", "pandas"],
        "python_version": "3.8", "entry": "go", "accelerators_per_process": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])
def test_resolved_options_have_the_defaults_of_the_feed(feed):
    given = RunTFScript(script("echo.py"))._options
    assert (given.feed, given.max_attempts, given.replay) == (None, None, None)
    options = given.resolve(feed, None, windows_end=False)
    assert isinstance(options, ScriptOptions)
    assert (options.feed, options.max_attempts, options.replay) == (feed, MAX_ATTEMPTS.feed_defaults[feed], False)
    assert given.resolve(feed, None).key != options.key
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feed": "bundles", "num_workers": 2}, 'num_workers has no meaning in feed="bundles": leave it out.*max_proc'),
        ({"feed": "bundles", "parallelism": 3, "num_ps": 0}, 'parallelism has no meaning in feed="bundles"'),
        ({"feed": "bundles", "shard_by": "id"}, 'shard_by has no meaning in feed="bundles": leave it out'),
        ({"feed": "dataset", "replay": True}, 'replay has no meaning in feed="dataset": leave it out.*max_attempts'),
        ({"replay": "yes"}, "replay must be True, False or None, got 'yes'"),
    ],
)
def test_argument_without_effect_in_the_feed_is_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        RunTFScript(script("echo.py"), **arguments)


@pytest.mark.parametrize("feed", [None, "stream"])
def test_argument_is_accepted_in_a_feed_in_which_it_has_an_effect(feed):
    options = RunTFScript(script("echo.py"), feed=feed, replay=False, num_workers=2, shard_by="id")._options
    assert (options.replay, options.num_workers, options.shard_by) == (False, 2, "id")
