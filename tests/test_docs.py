"""Every command and every piece of Python in the README and the guides runs."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from tribrain import cli

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, *kinds: str) -> list[tuple[str, str]]:
    """Kind and text of each block of these kinds, in the order of the page."""
    found = rf"^```({'|'.join(kinds)})\n(.*?)^```$"
    return re.findall(found, page.read_text("utf-8"), re.S | re.M)


@pytest.fixture
def workplace(tmp_path, monkeypatch, checkpoint, backbones):
    """A folder as the guides assume it: the examples, and a model at path/to."""
    (tmp_path / "examples").mkdir()
    for file in (ROOT / "examples").iterdir():
        (tmp_path / "examples" / file.name).symlink_to(file)
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "checkpoint").symlink_to(checkpoint)
    known = tmp_path / "path" / "to" / "backbones"
    known.mkdir()
    for folder in backbones.iterdir():
        (known / folder.name).symlink_to(folder)
    (known / "Qwen3-0.6B").symlink_to(backbones / "tiny-llama")
    (known / "vjepa2-vitl-fpc64-256").symlink_to(backbones / "tiny-vjepa2")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_runs(page, workplace, monkeypatch):
    shown = 0
    for _, block in blocks(page, "toml"):  # its first line names the file
        name = block.splitlines()[0].removeprefix("# ")
        (workplace / name).write_text(block, "utf-8")
    for kind, block in blocks(page, "bash", "python"):
        if kind == "python":
            exec(compile(block, page.name, "exec"), {})
            shown += 1
            continue
        for command in block.splitlines():
            program, *arguments = shlex.split(command, comments=True)
            if program == "make":  # run by hand and by CI
                continue
            assert program == "tribrain"
            monkeypatch.setattr(sys, "argv", [program, *arguments])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert stop.value.code == 0, command
            shown += 1
    assert shown


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_the_make_targets():
    shown = "\n".join(text for _, text in blocks(ROOT / "README.md", "bash"))
    targets = re.findall(r"^make (\w+)", shown, re.M)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert targets == ["demo", "test"]
    assert all(f"\n{target}: setup" in makefile for target in targets)
