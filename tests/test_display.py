"""Display data of the arguments: shown values, and secrets that are not shown."""

from __future__ import annotations

import pytest

from beam_tfscript import RunTFScript
from beam_tfscript.files.uris import mask_uri
from tests.running import script


def items(**arguments):
    """Return the display items of a transform with these arguments."""
    return RunTFScript(**{"main_script_file": script("echo.py"), **arguments}).display_data()


def test_leaves_out_arguments_that_are_not_given():
    found = items()
    assert found.pop("script_sha256")
    assert found == {
        "main_script_file": "echo.py",
        "entry": "main",
        "num_workers": 1,
        "output_as": "row",
        "intra_op_parallelism": 4,
        "start_timeout_s": 120,
        "feed_timeout_s": 600,
    }


def test_tells_two_versions_of_a_script_apart(tmp_path):
    path = tmp_path / "score.py"
    digests = set()
    for body in ("pass", "return"):
        path.write_text(f"def main(config): {body}\n")
        digests.add(items(main_script_file=str(path))["script_sha256"])
    assert len(digests) == 2


def test_shows_the_limits_of_processes_as_they_are_given():
    given = {"accelerators_per_process": 0.5, "max_runs": 3, "max_rss_bytes": 1 << 30, "max_processes": 2}
    assert given.items() <= items(**given).items()
    assert items(accelerators_per_process=0)["accelerators_per_process"] == 0


def test_doesnt_show_the_directories_of_local_files(tmp_path):
    (tmp_path / "words.txt").write_text("a")
    (tmp_path / "folder").mkdir()
    found = items(user_files=[str(tmp_path / "words.txt"), f"file://{tmp_path}/folder"])
    assert found["user_files"] == "words.txt, folder"
    assert str(tmp_path) not in str(found)


def test_shows_names_and_never_values_of_env():
    found = items(env={"TOKEN": "hush", "COLOR": "hush"})
    assert found["env"] == "COLOR, TOKEN"
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    "uri, masked",
    [
        ("gs://bucket/a/b.txt", "gs://bucket/a/b.txt"),
        ("hdfs://namenode:8020/a", "hdfs://namenode:8020/a"),
        ("https://me:hush@host:8080/a", "https://***@host:8080/a"),
        ("https://me@hush@host/a", "https://***@host/a"),
        ("oss://b/k?host=oss.eu&access_key_id=hush&access_key_secret=hush", None),
        ("https://h/a?X-Amz-Credential=hush&X-Amz-Signature=hush&X-Amz-Expires=60", None),
        ("https://h/a?sv=1&sig=hush", None),
        ("https://h/a?hush", "https://h/a?***"),
        ("https://h/a#access_token=hush", "https://h/a#***"),
        ("https://[hush/a", "https://***"),
    ],
)
def test_masks_secrets_in_a_uri(uri, masked):
    found = mask_uri(uri)
    assert "hush" not in found
    if masked is not None:
        assert found == masked


def test_masked_uri_still_has_the_path_of_the_file():
    found = mask_uri("oss://bucket/model.bin?host=oss.eu&access_key_secret=hush")
    assert found == "oss://bucket/model.bin?host=oss.eu&access_key_secret=***"


@pytest.mark.parametrize(
    "params",
    [
        {"password": "hush"},
        {"db": {"apiKey": "hush", "API_KEY": "hush", "access-key": "hush"}},
        {"tokens": 5, "token": ["hush", {"value": "hush"}]},
        {"source": "https://me:hush@host/data"},
        [{"AWSSecretAccessKey": "hush"}],
        {"token": {"note": {"deep": "hush"}}},
    ],
)
def test_masks_user_params_with_secret_names(params):
    assert "hush" not in items(user_params=params)["user_params"]


def test_shows_the_other_user_params_as_they_are():
    params = {"max_tokens": 512, "tokenizer": "größe", "key_column": "id", "authors": ["a"], "none": None}
    shown = items(user_params=params)["user_params"]
    assert shown == '{"max_tokens": 512, "tokenizer": "größe", "key_column": "id", "authors": ["a"], "none": null}'


@pytest.mark.parametrize(
    "arguments, shown",
    [
        (["--buckets", "5", "--name=x"], "--buckets 5 --name=x"),
        (["--token=hush", "--n=1"], "--token=*** --n=1"),
        (["--token", "hush", "--n", "1"], "--token *** --n 1"),
        (["-password", "-hush"], "-password ***"),
        (["--use_auth", "--n", "1"], "--use_auth --n 1"),
        (["Authorization: Bearer hush="], "***"),
        (["password=hush"], "password=***"),
        (['{"secret": "hush"}'], "***"),
        (["--from=https://me:hush@host/a"], "--from=https://***@host/a"),
    ],
)
def test_masks_secrets_in_script_args(arguments, shown):
    assert items(script_args=arguments)["script_args"] == shown


def test_shows_that_params_are_strings():
    found = items(user_params={"batch_size": 32}, compat_params="strings")
    assert (found["user_params"], found["compat_params"]) == ('{"batch_size": "32"}', "strings")


def test_a_long_value_is_cut():
    schema = ", ".join(f"column_{i} float" for i in range(300))
    shown = items(input_schema=schema)["input_schema"]
    assert len(shown) < 1100
    assert "characters)" in shown
