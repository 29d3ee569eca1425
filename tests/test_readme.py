"""What the README shows is run."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.S | re.M)
    return [text for name, text in fenced if name == language]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Runs a block as a reader would, in torch's own default precision, and returns what it printed."""

    def printed(code: str) -> str:
        monkeypatch.chdir(ROOT)
        torch.set_default_dtype(torch.float32)  # the numerical policy of the tests puts back float64
        exec(compile(code, "<block>", "exec"), {"__name__": "__main__"})
        return capsys.readouterr().out

    return printed


def test_the_first_python_of_the_readme_runs_and_converges(run: Callable[[str], str]) -> None:
    printed = run(blocks("python")[0])
    assert "2 of 2 pairs converged" in printed
    assert "2.0994" in printed


@pytest.mark.slow
def test_the_second_python_of_the_readme_comes_back_to_where_it_began(run: Callable[[str], str]) -> None:
    first, second = blocks("python")  # a third wants a test of its own
    assert first != second
    back, _, _, _, curvature = run(second).splitlines()
    assert back.startswith("tensor([1.2000, 1.0000]")
    assert curvature.startswith("tensor([1.0000, 1.0000, 1.0000]") or curvature.startswith("tensor([1., 1., 1.]")


@pytest.mark.slow
def test_the_python_of_the_riemannian_page_runs_from_top_to_bottom(run: Callable[[str], str]) -> None:
    page = (ROOT / "docs" / "riemannian.md").read_text(encoding="utf-8")
    assert run("\n".join(blocks("python", page)))


def test_the_table_of_the_riemannian_page_names_every_tool() -> None:
    import geodesic

    page = (ROOT / "docs" / "riemannian.md").read_text(encoding="utf-8")
    modules = {name: home for home, names in geodesic._MODULES.items() for name in names}
    tools = {name for name, home in modules.items() if home.startswith("geodesic.riemannian.") and name.islower()}
    table = page.partition("## The tools")[2].partition("## Maps")[0]
    assert {name for name in tools if not re.search(rf"`{name}[`(]", table)} == set()


def test_the_yaml_of_the_readme_is_valid_settings(tmp_path: Path) -> None:
    from geodesic import load_settings

    for number, block in enumerate(blocks("yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        assert load_settings(file).model.latent_size == 16


def test_every_command_of_the_readme_exists_and_its_files_do() -> None:
    from geodesic.cli import app

    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    used = re.findall(r"^geodesic +(\w+) +(\S*)", "".join(blocks("")), flags=re.M)
    assert {name for name, _ in used} == known
    for _, argument in used:
        assert not argument.startswith("configs/") or (ROOT / argument).is_file()


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/results.md", "docs/riemannian.md"]
)
def test_every_file_that_a_document_links_or_names_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named = re.findall(r"`((?:geodesic|tests|docs|configs|scripts|notebooks)/[\w./]+)`", text)
    missing = [
        name for name in links + named if not ((ROOT / document).parent / name).exists() and not (ROOT / name).exists()
    ]
    assert missing == []
