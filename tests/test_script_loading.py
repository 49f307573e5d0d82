"""The main script: its names, the modules beside it, and errors found while the pipeline is built."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from beam_tfscript import RunTFScript
from beam_tfscript.errors import ArgumentError, ScriptLoadError
from tests.without_tensorflow import blocked, ids

ECHO = """
def main(config):
    for batch in config.example_batches(100):
        for record in batch:
            config.write(name=__name__)
"""
SPAWNS = """
import concurrent.futures, multiprocessing, pickle

def double(n):
    return 2 * n

def main(config):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        found = list(pool.map(double, [1, 2]))
    assert found == [2, 4] and pickle.loads(pickle.dumps(double)) is double
    config.write(name=__name__)
"""


def run(runner, tmp_path, name, text, n=3, **arguments):
    """The values of column `name` that a script of this name and text writes."""
    path = tmp_path / "scripts" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    arguments = {"output_schema": "name string", "input_schema": "id string", "max_attempts": 1, **arguments}
    return [row["name"] for row in runner.run(RunTFScript(str(path), env=blocked(tmp_path), **arguments), ids(n))]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "module"),
        [
            ("score.py", "score"),
            ("types.py", "tfscript_types"),  # loaded in each process
            ("random.py", "tfscript_random"),
            ("sys.py", "tfscript_sys"),  # compiled into Python
            ("csv.py", "tfscript_csv"),  # a module of Python, not loaded yet
            ("my-score.py", "tfscript_my_score"),
            ("2nd.py", "tfscript_2nd"),
            ("class.py", "class"),
        ],
    )
    def test_script_may_have_the_name_of_a_module(self, in_memory, tmp_path, name, module):
        assert run(in_memory, tmp_path, name, ECHO, feed="stream") == [module] * 3

    def test_library_that_imports_the_module_later_gets_the_module(self, in_memory, tmp_path):
        text = "def main(config):\n    import csv\n    config.write(name=csv.reader.__name__)\n"
        assert run(in_memory, tmp_path, "csv.py", text) == ["reader"]

    @pytest.mark.parametrize("name", ["score.py", "my-score.py"])
    def test_functions_are_found_by_pickle_and_by_spawned_processes(self, in_memory, tmp_path, name):
        assert len(run(in_memory, tmp_path, name, SPAWNS)) == 1

    def test_module_beside_the_script_imports_the_script(self, in_memory, tmp_path):
        (tmp_path / "helper.py").write_text("import score\ndef name():\n    return score.__name__ + score.WORD\n")
        text = "import helper\nWORD = '!'\ndef main(config):\n    config.write(name=helper.name())\n"
        got = run(in_memory, tmp_path, "score.py", text, user_files=[str(tmp_path / "helper.py")])
        assert got == ["score!"]

    def test_each_run_of_a_process_loads_its_own_script(self, in_memory, tmp_path):
        text = "import os\nRUNS = []\ndef main(config):\n    RUNS.append(1)\n"
        text += "    config.write(name='{} {} {}'.format(os.getpid(), len(RUNS), __name__))\n"
        got = run(in_memory, tmp_path, "types.py", text, n=4, num_workers=2, max_processes=1, feed="dataset")
        assert len(got) == 2 and len(set(got)) == 1 and got[0].endswith(" 1 tfscript_types")

    def test_functions_are_named_where_main_is_missing(self, in_memory, tmp_path):
        text = "from os.path import join\nmain = 1\ndef score(config):\n    pass\n"
        with pytest.raises(Exception, match=r"types.py has no function 'main'; it defines score"):
            run(in_memory, tmp_path, "types.py", text)

    @pytest.mark.parametrize(
        ("name", "why"), [("score.txt", "its name does not end with .py"), ("folder", "it is a directory")]
    )
    def test_what_is_no_python_file_is_refused(self, tmp_path, name, why):
        path = tmp_path / name
        path.mkdir() if name == "folder" else path.write_text(ECHO)
        with pytest.raises(ArgumentError, match=f"must be a Python file.*{why}"):
            RunTFScript(str(path))


class TestSiblings:
    """Modules beside the script, as `python score.py` would find them."""

    MAIN = "import helpers\n\ndef main(config):\n    config.write(name=helpers.name())\n"

    def test_module_that_is_imported_is_there_with_what_it_imports(self, in_memory, tmp_path):
        folder = tmp_path / "scripts"
        (folder / "words").mkdir(parents=True)
        (folder / "spaces").mkdir()
        (folder / "helpers.py").write_text("def name():\n    from words import best\n    return best.name()\n")
        (folder / "words" / "__init__.py").write_text("")
        (folder / "words" / "best.py").write_text("import spaces.wide\ndef name():\n    return spaces.wide.NAME\n")
        (folder / "spaces" / "wide.py").write_text("import json\nNAME = 'found'\n")
        (folder / "json.py").write_text("raise RuntimeError('a module of Python, loaded before')\n")
        (folder / "unused.py").write_text("raise RuntimeError\n")
        got = run(in_memory, tmp_path, "score.py", self.MAIN)
        assert got == ["found"]
        transform_files = [file.name for file in RunTFScript(str(folder / "score.py"))._options.files]
        assert transform_files == ["score.py", "helpers.py", "json.py", "spaces", "words"]

    def test_module_given_in_user_files_or_in_an_archive_goes_first(self, in_memory, tmp_path):
        folder = tmp_path / "scripts"
        folder.mkdir()
        (folder / "helpers.py").write_text("def name():\n    return 'beside'\n")
        (tmp_path / "helpers.py").write_text("def name():\n    return 'given'\n")
        with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
            archive.writestr("helpers/__init__.py", "def name():\n    return 'packed'\n")
        assert run(in_memory, tmp_path, "score.py", self.MAIN, user_files=[str(tmp_path / "helpers.py")]) == ["given"]
        assert run(in_memory, tmp_path, "score.py", self.MAIN, user_files=[str(tmp_path / "lib.zip")]) == ["packed"]
        assert run(in_memory, tmp_path, "score.py", self.MAIN) == ["beside"]

    def test_large_modules_do_not_make_the_job_graph_large(self, tmp_path):
        (tmp_path / "score.py").write_text("import a, b, c, d, e\ndef main(config):\n    pass\n")
        for name in "abcde":
            (tmp_path / f"{name}.py").write_text(f"# {'x' * 1000000}\n")
        files = RunTFScript(str(tmp_path / "score.py"))._options.files
        assert [file.name for file in files] == ["score.py", "a.py", "b.py", "c.py", "d.py", "e.py"]
        assert sum(len(file.content or b"") for file in files) <= 4 << 20
        assert all(file.content or file.path for file in files)

    @pytest.mark.parametrize("text", ["import {}\ndef main(config):\n    pass\n", "def main(config):\n    import {}\n"])
    def test_missing_module_is_told_with_what_to_do(self, in_memory, tmp_path, text):
        with pytest.raises(Exception, match=r"(?s)No module named 'not_there'.*add its file to user_files"):
            run(in_memory, tmp_path, "score.py", text.format("not_there"))

    def test_function_in_place_of_a_file_is_refused_with_the_way_out(self):
        def main(config):
            """Never called."""

        with pytest.raises(ArgumentError, match=r"not the function 'main' itself.*%%writefile score.py"):
            RunTFScript(main, "name string")


class TestParameters:
    @pytest.mark.parametrize(
        ("definition", "fault"),
        [
            ("def main():", "takes no positional parameter"),
            ("def main(*, config):", "takes no positional parameter"),
            ("def main(config, args):", "needs the arguments config, args"),
            ("def main(config, *, rate):", "needs the arguments config, rate"),
            ("async def main():", "takes no positional parameter"),
        ],
    )
    def test_function_that_cannot_take_the_config_is_told_with_its_line(self, tmp_path, definition, fault):
        path = tmp_path / "score.py"
        path.write_text(f"import os\n\n{definition}\n    pass\n")
        with pytest.raises(ScriptLoadError, match=rf"score.py, line 3: `main` {fault}.*def main\(config\)"):
            RunTFScript(str(path))

    @pytest.mark.parametrize(
        "source",
        [
            "def main(config, rate=0.1, *more, flag=True, **rest):\n    pass\n",
            "def main(*arguments):\n    pass\n",
            "def main(config, /):\n    pass\n",
            "import functools\n@functools.partial\ndef main():\n    pass\n",
            "def main():\n    pass\nmain = print\n",
            "try:\n    def main():\n        pass\nexcept ImportError:\n    def main(config):\n        pass\n",
        ],
    )
    def test_function_that_may_take_the_config_is_let_through(self, tmp_path, source):
        (tmp_path / "score.py").write_text(source)
        RunTFScript(str(tmp_path / "score.py"))

    def test_values_of_numpy_in_user_params_are_plain_values(self, in_memory, tmp_path):
        params = {
            "int": np.int64(3), "float": np.float32(0.5), "bool": np.bool_(True), "zero": np.array(7),
            "list": np.arange(3), "deep": [{"x": np.float64(1.5)}], "text": np.str_("a"),
        }  # fmt: skip
        text = "import json\ndef main(config):\n    config.write(name=json.dumps(config.user_params, sort_keys=True))\n"
        (name,) = run(in_memory, tmp_path, "score.py", text, user_params=params)
        assert json.loads(name) == {
            "int": 3, "float": 0.5, "bool": True, "zero": 7, "list": [0, 1, 2], "deep": [{"x": 1.5}], "text": "a",
        }  # fmt: skip

    @pytest.mark.parametrize("value", [np.datetime64("2026-01-01"), np.array([1j]), np.longdouble(1), np.bytes_(b"x")])
    def test_values_of_numpy_that_json_has_not_are_refused_with_their_place(self, tmp_path, value):
        (tmp_path / "score.py").write_text("def main(config):\n    pass\n")
        with pytest.raises(ArgumentError, match=r"user_params must be JSON: user_params\['a'\]\[1\]"):
            RunTFScript(str(tmp_path / "score.py"), user_params={"a": [np.int64(1), value]})
