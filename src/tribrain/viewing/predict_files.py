"""The main job, from a stimulus file to a folder of results."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tribrain
from tribrain.brain.export import check_formats, check_target, save_response
from tribrain.encoder.models import load_model
from tribrain.errors import InputError
from tribrain.features.extract import Progress
from tribrain.files import sha256
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import Word
from tribrain.viewing.report import report_page

_PACKAGES = ("numpy", "torch", "transformers", "av", "julius", "nilearn", "xarray", "zarr")


def predict_to_folder(
    path: Path,
    *,
    model: str = "textbook",
    out: Path | None = None,
    transcript: Path | None = None,
    text: Path | None = None,
    modalities: Sequence[str] | None = None,
    subject: str | None = None,
    overlap: float = 0.0,
    backbones: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    exact_context: bool = False,
    cache: Path | bool = True,
    duration: float = 20.0,
    language: str = "en",
    formats: Sequence[str] = ("gifti",),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Predict the response to a file and write everything about it.

    The arguments are those of ``tribrain predict``. Nothing is written until all is computed.

    Returns
    -------
    Path
        The report, in the folder `out` (by default ``NAME_tribrain`` in the working directory).
    """
    if backbones is not None and not backbones.is_dir():
        raise InputError(f"--backbones {backbones} is not a folder")
    check_formats(formats)
    stimulus = Stimulus.open(
        path, transcript=transcript, text=text, duration=duration, language=language
    )
    out = Path(f"{stimulus.name}_tribrain") if out is None else out
    check_target(out, stimulus.name, stimulus.checksum, overwrite=overwrite)
    loaded = load_model(
        model,
        backbones=backbones,
        device=device,
        precision=precision,
        exact_context=exact_context,
        cache=cache,
    )
    response = loaded.predict(
        stimulus, subject=subject, modalities=modalities, overlap=overlap, progress=progress
    )
    source = {
        **response.provenance["stimulus"],
        "transcript": _file_facts(transcript),
        "text": _file_facts(text),
    }
    provenance = {**response.provenance, "stimulus": source, "versions": versions()}
    response = dataclasses.replace(response, provenance=provenance)
    report = f"{stimulus.name}_report.html"
    also = {report: report_page(response, stimulus, title=stimulus.name)}
    if stimulus.words:
        also[f"{stimulus.name}_words.tsv"] = words_table(stimulus.words)
    save_response(response, out, stimulus.name, formats=formats, overwrite=overwrite, also=also)
    return out / report


def words_table(words: Sequence[Word]) -> str:
    """Words as a .tsv that `--transcript` reads: onset, duration, text."""
    rows = (f"{word.start:.3f}\t{word.duration:.3f}\t{word.text}" for word in words)
    return "\n".join(["onset\tduration\ttext", *rows]) + "\n"


def versions() -> dict[str, str]:
    """Versions of the program, of Python and of the packages that the numbers depend on."""
    found = {"tribrain": tribrain.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _file_facts(path: Path | None) -> dict[str, Any] | None:
    return None if path is None else {"file": path.name, "sha256": sha256(path)}
