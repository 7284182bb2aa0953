"""Fixtures: small models and films that the tests make, and the shared golden files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Small products on many threads wait for each other where tests and their subprocesses share cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Speech is recognised and aligned where a test asks for it, and nowhere else.
os.environ["TRIBRAIN_RECOGNISER"] = os.environ["TRIBRAIN_ALIGNER"] = "none"

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import makers

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("TRIBRAIN_SHARED", ROOT.parent / "shared"))


def shared(part: str) -> Path:
    """A path in the shared folder; skips the test, with the reason, where it is not there."""
    path = SHARED / part
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where features are kept while tests run, instead of the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["TRIBRAIN_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    return shared("golden")


@pytest.fixture(scope="session")
def stimuli() -> Path:
    return shared("data/stimuli")


@pytest.fixture(scope="session")
def atlases() -> Path:
    return shared("data/atlases")


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with random tiny-llama, tiny-w2v-bert and tiny-vjepa2 in Hugging Face format."""
    return makers.make_backbones(tmp_path_factory.mktemp("backbones"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a random encoder in the published format that reads `backbones`."""
    return makers.make_published_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def run_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run tribrain with arguments: its exit code, and what it said on both streams."""
    from tribrain import cli

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tribrain", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Where the golden files are there, a golden test that is skipped has failed."""
    report = (yield).get_result()
    if report.skipped and item.get_closest_marker("golden") and (SHARED / "golden").is_dir():
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although {SHARED / 'golden'} is there"
