"""Functions of the user's own: found, called, and their mistakes told in one line."""

import functools
import re
import sys
from pathlib import Path

import pytest

from foldwise.errors import ConfigError, DataError
from foldwise.functions import check_call, check_module, failure_told, load_function, module_file, takes

KEY = "loss.name"


@pytest.fixture(autouse=True)
def _as_before():
    """Put the search path and the modules back."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module below the working directory; return its path."""
    monkeypatch.chdir(tmp_path)

    def write(code, name="my_losses.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        return path

    return write


def message(kind, function, *arguments):
    with pytest.raises(kind) as caught:
        function(*arguments)
    assert "\n" not in caught.value.message
    return caught.value.message


class TestModuleFile:
    @pytest.mark.parametrize("name", ["my_losses.py", "inner/my_losses.py", "inner/deep/__init__.py"])
    def test_it_is_the_file_of_the_module_without_an_import(self, write, name):
        write("raise SystemExit\n", name)
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        assert module_file(f"{module}:dice") == Path(name)

    def test_a_package_wins_over_a_file_as_in_python(self, write):
        write("", "both.py")
        write("", "both/__init__.py")
        assert module_file("both:dice") == Path("both/__init__.py")

    def test_a_compiled_module_is_a_file_too(self, write):
        write("", "fast.so")
        assert module_file("fast:dice") == Path("fast.so")

    def test_below_another_folder_its_path_begins_there(self, write, tmp_path):
        write("", "inner/my_losses.py")
        assert module_file("my_losses:dice", tmp_path / "inner") == tmp_path / "inner/my_losses.py"

    @pytest.mark.parametrize("text", ["torch:rand", "torch.nn.functional:mse_loss", "nowhere:f"])
    def test_there_is_none_of_a_module_that_is_installed_or_not_there(self, write, text):
        assert module_file(text) is None


class TestCheckModule:
    def test_a_module_in_the_working_directory_is_not_imported(self, write):
        write("raise SystemExit\n")
        check_module("my_losses:dice", KEY)
        assert "my_losses" not in sys.modules

    @pytest.mark.parametrize("text", ["torch.nn.functional:mse_loss", "json:dumps", "math:sqrt"])
    def test_an_installed_module_is_accepted(self, write, text):
        check_module(text, KEY)

    def test_a_folder_that_holds_no_code_does_not_hide_an_installed_package(self, write):
        write("", "yaml/data.txt")
        check_module("yaml:safe_load", KEY)

    def test_a_folder_that_holds_no_code_is_no_module_though_python_can_import_it(self, write, tmp_path):
        write("", "my_data/table.txt")
        sys.path[:0] = [str(tmp_path)]
        for _ in range(2):
            assert "There is no module my_data." in message(ConfigError, check_module, "my_data:dice", KEY)
            __import__("my_data")

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("my_lossez:dice", "There is no module my_lossez. Did you mean 'my_losses'?"),
            ("pakage.inner:dice", "There is no module pakage. Did you mean 'package'?"),
            ("package.iner:dice", "There is no module package.iner. Did you mean 'package.inner'?"),
            ("wholly.different:dice", "There is no module wholly."),
        ],
    )
    def test_a_module_that_is_not_there_is_told_with_the_nearest(self, write, text, hint):
        write("")
        write("", "package/__init__.py")
        write("", "package/inner.py")
        expected = "a module in the working directory, or one that is installed"
        assert message(ConfigError, check_module, text, KEY) == f"{KEY}: got '{text}', expected {expected}. {hint}"

    def test_another_folder_is_named(self, write, tmp_path):
        found = message(ConfigError, check_module, "nowhere_at_all:dice", KEY, tmp_path / "inner")
        assert f"expected a module in {tmp_path / 'inner'}, or one" in found

    def test_a_file_that_would_hide_a_module_of_python_is_refused(self, write):
        write("def dice(): pass\n", "statistics.py")
        found = message(ConfigError, check_module, "statistics:dice", KEY)
        assert found.startswith(f"{KEY}: got 'statistics:dice', of statistics.py, expected a name that no module of")


class TestLoadFunction:
    def test_it_comes_from_the_working_directory_and_so_do_modules_beside_it(self, write, tmp_path):
        write("SIDE = 3\n", "beside_my_losses.py")
        write("def dice():\n    import beside_my_losses\n    return beside_my_losses.SIDE\n")
        assert load_function("my_losses:dice", KEY)() == 3
        assert sys.path[0] == str(tmp_path)

    def test_the_working_directory_comes_first_and_once(self, write, tmp_path):
        write("def dice(): return 1\n", "elsewhere/my_losses.py")
        write("def dice(): return 2\n")
        sys.path[:] = [str(tmp_path / "elsewhere"), str(tmp_path), *sys.path]
        assert load_function("my_losses:dice", KEY)() == 2
        load_function("my_losses:dice", KEY)
        assert sys.path.count(str(tmp_path)) == 1

    def test_packages_and_installed_functions(self, write):
        write("", "package/__init__.py")
        write("def dice(): return 4\n", "package/inner.py")
        assert load_function("package.inner:dice", KEY)() == 4
        assert load_function("math:sqrt", KEY)(9) == 3

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("def dise(): pass\n", r"\(no function dice in .*my_losses\.py\), expected dise\. Did you mean 'dise'\?"),
            ("from math import sqrt\ndef other(): pass\n", r"\(no function dice in .*\), expected other\.$"),
            ("dice = 3\n", r"\(no function dice in .*my_losses\.py\), expected a function\.$"),
            ("\n  def dice(:\n", r"\((IndentationError|SyntaxError): .* See .*my_losses\.py line 2, `def dice\(:`\.$"),
            ("\n1 / 0\n", r"\(ZeroDivisionError: division by zero\), .*See .*my_losses\.py line 2, `1 / 0`\.$"),
            ("import not_there_at_all\n", r"\(ModuleNotFoundError: No module named 'not_there.*line 1, `import not_"),
            ("raise SystemExit(3)\n", r"\(SystemExit: 3\)"),
        ],
    )
    def test_what_is_wrong_is_told_with_the_key(self, write, code, words):
        write(code)
        found = message(ConfigError, load_function, "my_losses:dice", KEY)
        assert found.startswith(f"{KEY}: got 'my_losses:dice' ")
        assert re.search(words, found)

    def test_a_module_that_an_installed_package_does_not_have_is_told(self, write):
        found = message(ConfigError, load_function, "json.decoderr:dice", KEY)
        assert "'json.decoderr:dice' (no module json.decoderr), expected a module that can be imported" in found

    def test_a_file_with_the_name_of_a_module_in_use_is_refused(self, write):
        import yaml

        write("def dice(): pass\n", "yaml.py")
        found = message(ConfigError, load_function, "yaml:dice", KEY)
        assert f"expected a name of its own, as yaml of {yaml.__file__} is in use. Rename the file." in found

    def test_a_module_that_was_imported_through_a_link_to_the_folder_is_the_same(self, write, tmp_path, monkeypatch):
        write("def dice(): return 5\n", "real/my_losses.py")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        load_function("my_losses:dice", KEY, tmp_path / "real")
        assert load_function("my_losses:dice", KEY, tmp_path / "link")() == 5


def three(logits, targets, alpha, beta=2.0):
    return logits


class TestCheckCall:
    @pytest.mark.parametrize("arguments", [["alpha"], ["beta", "alpha"], {"alpha": 1}])
    def test_what_fits_passes(self, arguments):
        check_call(three, "here:three", ["logits", "targets"], arguments)

    @pytest.mark.parametrize(
        ("given", "arguments", "called"),
        [
            (["logits"], ["alpha"], "def three(logits, alpha)"),
            (["logits", "targets"], [], "def three(logits, targets)"),
            (["logits", "targets"], ["alpha", "gamma"], "def three(logits, targets, alpha, gamma)"),
            (["a", "b", "c", "d", "e"], [], "def three(a, b, c, d, e)"),
        ],
    )
    def test_what_does_not_fit_is_told_with_both(self, given, arguments, called):
        found = message(DataError, check_call, three, "here:three", given, arguments)
        signature = "def three(logits, targets, alpha, beta=2.0)"
        assert found == f"here:three: got {signature}, expected {called}. Mend it, or its arguments."

    def test_functions_that_say_nothing_about_themselves_pass(self):
        check_call(max, "builtins:max", ["a"] * 9)

    def test_whether_a_function_takes_a_parameter(self):
        assert takes(three, "beta")
        assert not takes(three, "gamma")


class TestFailureTold:
    def run(self, function, *arguments):
        with failure_told("here:f", function):
            function(*arguments)

    def test_the_line_is_that_of_the_users_file_though_a_library_failed(self):
        import json

        def broken():
            return json.loads("{")  # the line that is told

        found = message(DataError, self.run, broken)
        assert found.startswith("here:f: got JSONDecodeError: Expecting property name")
        assert re.search(
            r"expected a function that runs to its end\. See .*test_functions\.py line \d+, `return", found
        )

    def test_an_item_is_named(self):
        with pytest.raises(DataError, match=r"^here:f item 3: got KeyError, expected"), failure_told("here:f", len, 3):
            raise KeyError

    def test_without_a_file_of_the_function_the_line_is_the_last_that_is_not_installed(self):
        found = message(DataError, self.run, functools.partial(int, "x"))
        assert re.search(r"got ValueError: .* See .*test_functions\.py line \d+, `function\(\*arguments\)`\.$", found)

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("CUDA out of memory. Tried to allocate 2 GiB."),
            MemoryError(),
            DataError("a.csv", 1, "2"),
            ConfigError("lr", 1, "2"),
        ],
    )
    def test_what_others_tell_passes_as_it_is(self, error):
        def fail():
            raise error

        with pytest.raises(type(error)) as caught:
            self.run(fail)
        assert caught.value is error

    def test_the_wish_to_stop_passes(self):
        def stopped():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.run(stopped)
