"""What the README shows is run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.S | re.M)
    return [text for name, text in fenced if name == language]


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_of_the_readme_runs_and_converges(block: str) -> None:
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 pairs converged" in done.stdout
    assert "2.0994" in done.stdout


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


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/results.md"])
def test_every_file_that_a_document_links_or_names_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named = re.findall(r"`((?:geodesic|tests|docs|configs|scripts|notebooks)/[\w./]+)`", text)
    missing = [
        name for name in links + named if not ((ROOT / document).parent / name).exists() and not (ROOT / name).exists()
    ]
    assert missing == []
