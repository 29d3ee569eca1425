"""The benchmark of the house counts what it says."""

import json
from pathlib import Path

import pytest

from scripts.benchmarks.structure.command import main
from scripts.benchmarks.structure.measure import code_lines, parameters

TOP = '"""A toy."""\n\n__all__ = ["a", "b"]\n'
CHECKS = "from geodesic.models import vae\n"
MAIN = 'print("usage")\n'


def test_a_toy_checkout_has_the_sizes_that_it_has(tmp_path: Path) -> None:
    package = tmp_path / "toy" / "geodesic"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text(TOP)
    (package / "__main__.py").write_text(MAIN)
    (package / "checks.py").write_text(CHECKS)
    (package / "models" / "vae.py").write_text("from geodesic.checks import x\n" + 400 * "# long\n")
    file = tmp_path / "found.json"
    (found,) = main(["--root", str(package.parent), "--repeats", "1", "--out", str(file)]).values()
    assert (found["files"], found["lines"], found["lines of code"]) == (4, 406, 4)
    assert (found["largest file"], found["its lines"]) == ("geodesic/models/vae.py", 401)
    assert found["files of more than 400 lines"] == 1
    assert found["import order violations"] == 1
    assert found["modules in circles"] == 2
    assert found["public names"] == 2
    assert 0 < float(found["seconds of `import geodesic`"]) < 10
    assert list(json.loads(file.read_text()).values()) == [found]


def test_a_folder_without_the_package_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--root", str(tmp_path)])
    assert "give the root of a checkout" in capsys.readouterr().err


def test_docstrings_comments_and_blank_lines_are_no_code() -> None:
    source = '"""Two\nlines."""\n\n# why\nx = """not\na docstring"""\n\n\ndef f():\n    """One."""\n    return 1\n'
    assert code_lines(source) == 4


def test_self_is_no_parameter() -> None:
    source = "class A:\n    def f(self, a, /, b, *c, d, **e): ...\n\n\nasync def g(): ..."
    assert list(parameters(source)) == [0, 3]
