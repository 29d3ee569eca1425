"""What the README and the pages show is run, what they name exists."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.experiments import Home

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str, text: str) -> list[str]:
    fenced = re.findall(r"^```([\w{}-]*)\n(.*?)^```$", text, flags=re.S | re.M)
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


def test_the_python_of_the_readme_prints_what_the_readme_says_it_prints(run: Callable[[str], str]) -> None:
    (code,) = blocks("python", README)  # a second wants a test of its own
    assert run(code) == blocks("text", README)[0]


SHOWN = [page for page in PAGES if blocks("text", PAGES[page])]


@pytest.mark.slow
@pytest.mark.parametrize("page", SHOWN)
def test_a_page_prints_what_it_says_it_prints(page: str, run: Callable[[str], str], tmp_path: Path) -> None:
    code = "\n".join(blocks("python", PAGES[page]))
    assert run(f"import os\nos.chdir({str(tmp_path)!r})\n{code}") == "".join(blocks("text", PAGES[page]))


@pytest.mark.slow
def test_the_pair_over_the_hill_is_as_much_shorter_as_the_readme_says(run: Callable[[str], str]) -> None:
    (code,) = blocks("python", README)
    over, round_it = re.search(r"its length falls from (\d+\.\d+) to (\d+\.\d+)", README).groups()
    better = code.replace("start, end)", 'start, end, init="best")')
    assert run(code + 'print(f"{solution.length[0]:.2f}")').splitlines()[-1] == over
    assert run(better + 'print(f"{solution.length[0]:.2f}", bool(solution.minimum[0]))').splitlines()[-1] == (
        f"{round_it} True"
    )


OWN_TESTS = ("adapters", "recipes", "riemannian", "run-folder")


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks("python", PAGES[page]) and page not in [*OWN_TESTS, *SHOWN]]
)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: str, run: Callable[[str], str]) -> None:
    assert run("\n".join(blocks("python", PAGES[page])))


@pytest.mark.slow
def test_every_recipe_comes_to_solutions_that_have_converged(run: Callable[[str], str]) -> None:
    recipes = PAGES["recipes"].count("\n## ")
    assert run("\n".join(blocks("python", PAGES["recipes"]))).splitlines() == recipes * ["tensor(True)"]


def test_the_python_of_the_page_of_run_folders_opens_a_run(
    small: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = blocks("python", PAGES["run-folder"])
    monkeypatch.chdir(small.folder)
    exec(code.replace("configs/mnist.yaml", "small.yaml"), {})
    assert "torch.Size" in capsys.readouterr().out


@pytest.mark.slow
def test_the_riemannian_page_runs_and_its_sphere_comes_back_to_where_it_began(run: Callable[[str], str]) -> None:
    back, _, _, _, curvature = run("\n".join(blocks("python", PAGES["riemannian"]))).splitlines()[:5]
    assert back.startswith("tensor([1.2000, 1.0000]")
    assert curvature.startswith("tensor([1.0000, 1.0000, 1.0000]") or curvature.startswith("tensor([1., 1., 1.]")


def test_the_table_of_the_riemannian_page_names_every_tool() -> None:
    import geodesic

    modules = {name: home for home, names in geodesic._MODULES.items() for name in names}
    tools = {name for name, home in modules.items() if home.startswith("geodesic.riemannian.") and name.islower()}
    table = PAGES["riemannian"].partition("## The tools")[2].partition("## Maps")[0]
    assert {name for name in tools if not re.search(rf"`{name}[`(]", table)} == set()


def test_the_yaml_of_the_pages_is_valid_settings(tmp_path: Path) -> None:
    from geodesic import load_settings

    file, read = tmp_path / "mine.yaml", {}
    for page, text in PAGES.items():
        for block in blocks("yaml", text):
            file.write_text(block, encoding="utf-8")
            read[page] = load_settings(file)
    assert set(read) == {"command-line", "your-own-model"}
    assert read["command-line"].model.latent_size == 16


def test_every_command_that_is_shown_exists_and_its_files_do() -> None:
    from geodesic.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    used = re.findall(r"^geodesic +(\w+) +(\S*)", "".join(blocks("", PAGES["command-line"])), flags=re.M)
    assert {name for name, _ in used} == known
    for _, argument in used:
        assert not argument.startswith("configs/") or (ROOT / argument).is_file()
    named = {name for text in (README, *PAGES.values()) for name in re.findall(r"`geodesic ([a-z]+) ", text)}
    assert named <= known


def test_the_table_of_settings_names_every_section_and_key() -> None:
    from geodesic.experiment import Settings

    table = PAGES["command-line"].partition("## Settings")[2].partition("## A decoder")[0]
    missing = [name for name in Settings.model_fields if not re.search(rf"`{name}[`.]", table)]
    for section in ("cov", "curvature", "mean", "analogy", "distances", "geodesic"):
        keys = [field.alias or name for name, field in Settings.model_fields[section].annotation.model_fields.items()]
        missing += [f"{section}.{key}" for key in keys if not re.search(rf"[`.]{key}`", table)]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_file_that_a_document_links_or_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named = re.findall(r"`((?:geodesic|tests|docs|configs|scripts|notebooks)/[\w./]+)`", text)
    missing = [name for name in links + named if not ((document.parent / name).exists() or (ROOT / name).exists())]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_heading_that_a_document_links_exists(document: Path) -> None:
    missing = []
    for name, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", document.read_text(encoding="utf-8")):
        text = (document.parent / name).read_text(encoding="utf-8") if name else document.read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
        if anchor not in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}:
            missing.append(f"{name}#{anchor}")
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_benchmark_that_a_document_names_exists(document: Path) -> None:
    from scripts.benchmarks.__main__ import BENCHMARKS

    named = re.findall(r"python -m scripts\.benchmarks ([\w-]+)", document.read_text(encoding="utf-8"))
    assert set(named) - {"NAME"} <= set(BENCHMARKS)


def test_the_readme_cites_what_the_citation_file_says_of_this_version() -> None:
    from geodesic import __version__

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (entry,) = blocks("bibtex", README)
    assert blocks("bibtex", PAGES["cite"]) == [entry]
    assert cited["version"] == __version__
    for key in ("title", "version", "license"):
        assert re.search(rf"^ +{key} += {{(.*)}},?$", entry, flags=re.M)[1] == cited[key]


def test_the_readme_is_one_screen() -> None:
    assert len(README.splitlines()) < 110


def test_every_page_and_notebook_is_in_the_table_of_contents_of_the_site() -> None:
    listed = re.findall(
        r"^(?:\.\./)?(?:notebooks/)?([\w-]+)$", "\n".join(blocks("{toctree}", PAGES["index"])), flags=re.M
    )
    notebooks = [path.stem for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert set(PAGES) - {"index"} | set(notebooks) | {"CHANGELOG", "CONTRIBUTING"} == set(listed)


def test_the_page_of_the_api_names_every_public_name() -> None:
    import geodesic

    named = re.findall(r"^   geodesic\.(\w+)$", PAGES["api"], flags=re.M)
    assert sorted(named) == sorted(name for names in geodesic._MODULES.values() for name in names)
