"""The main job, from a stimulus file to a folder of results."""

from __future__ import annotations

import dataclasses
import platform
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tribrain
from tribrain.brain.export import check_formats, check_target, save_response
from tribrain.brain.region_tables import atlas_for
from tribrain.brain.volume_files import read_mask
from tribrain.encoder.models import load_model
from tribrain.errors import InputError
from tribrain.features.extract import Progress
from tribrain.files import sha256, whole_file
from tribrain.stimuli.pictures import PictureEvent
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
    language: str | None = None,
    heard: Mapping[str, Any] | None = None,
    formats: Sequence[str] = ("gifti",),
    atlas: str = "textbook",
    mask: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Predict the response to a file and write everything about it.

    The arguments are those of ``tribrain predict``; `heard` holds those that say where words come
    from and which sound is meant (`Stimulus.open`). Nothing is written until all is computed.

    Returns
    -------
    Path
        The report, in the folder `out` (by default ``NAME_tribrain`` in the working directory).
    """
    if backbones is not None and not backbones.is_dir():
        raise InputError(f"--backbones {backbones} is not a folder")
    check_formats(formats)
    if not path.exists():  # told before a model is fetched, which is told before words are heard
        raise InputError(f"stimulus {path} does not exist")
    loaded = load_model(
        model,
        backbones=backbones,
        device=device,
        precision=precision,
        exact_context=exact_context,
        cache=cache,
    )
    loaded.check_extracts()
    heard = dict(heard or {})
    if modalities is not None and "text" not in modalities:
        heard.update(recogniser="none", aligner="none")  # nobody asks for what would be heard
    with tempfile.TemporaryDirectory(prefix="tribrain-") as spoken:
        stimulus = Stimulus.open(
            path,
            transcript=transcript,
            text=text,
            duration=duration,
            language=language,
            folder=Path(spoken),
            progress=progress,
            **heard,
        )
        out = Path(f"{stimulus.name}_tribrain") if out is None else out
        check_target(out, stimulus.name, stimulus.checksum, overwrite=overwrite)
        space = loaded.space if mask is None else loaded.space.with_voxels(read_mask(mask))
        regions = atlas_for(space, atlas)
        response = loaded.predict(
            stimulus, subject=subject, modalities=modalities, overlap=overlap, progress=progress
        )
        if space.voxels is not None:
            response = response.with_voxels(space.voxels)
        source = {
            **response.provenance["stimulus"],
            "transcript": _file_facts(transcript),
            "text": _file_facts(text),
            **{name: value for name, value in heard.items() if value is not None},
        }
        provenance = {**response.provenance, "stimulus": source, "versions": versions()}
        response = dataclasses.replace(response, provenance=provenance)
        report = f"{stimulus.name}_report.html"
        also: dict[str, str | bytes] = {
            report: report_page(response, stimulus, title=stimulus.name, atlas=regions)
        }
        if stimulus.words:
            also[f"{stimulus.name}_words.tsv"] = words_table(stimulus.words)
        if stimulus.events:
            also[f"{stimulus.name}_events.tsv"] = events_table(stimulus.events)
        if stimulus.audio is not None and stimulus.audio.path != stimulus.path:
            also[f"{stimulus.name}_speech.wav"] = stimulus.audio.path.read_bytes()
        save_response(
            response,
            out,
            stimulus.name,
            formats=formats,
            atlas=regions or "textbook",
            overwrite=overwrite,
            also=also,
        )
        return out / report


def words_to_file(path: Path, out: Path | None = None, **how: Any) -> tuple[Path, Stimulus]:
    """Find the words of a stimulus and write them as a table to correct and give back.

    Parameters
    ----------
    path : Path
    out : Path, optional
        By default ``NAME_words.tsv`` in the working directory.
    **how
        As `Stimulus.open` takes them.

    Raises
    ------
    InputError
        A stimulus without words, and why.
    """
    with tempfile.TemporaryDirectory(prefix="tribrain-") as spoken:
        stimulus = Stimulus.open(path, folder=Path(spoken), **how)
    if not stimulus.words:
        raise InputError(f"{path.name}: {'; '.join(stimulus.notes) or 'no words'}")
    out = Path(f"{stimulus.name}_words.tsv") if out is None else out
    if out.exists() and out.resolve() == path.resolve():
        raise InputError(f"--out {out} is the stimulus itself")
    with whole_file(out) as file:
        file.write(words_table(stimulus.words).encode())
    return out, stimulus


def words_table(words: Sequence[Word]) -> str:
    """Words as a .tsv that `--transcript` reads: onset and duration (s), text, confidence (0 to 1,
    n/a where it is not known), and where the time is from.
    """
    rows = (
        f"{word.start:.3f}\t{word.duration:.3f}\t{word.text}\t"
        f"{'n/a' if word.confidence is None else f'{word.confidence:.3f}'}\t{word.source}"
        for word in words
    )
    return "\n".join(["onset\tduration\ttext\tconfidence\tsource", *rows]) + "\n"


def events_table(events: Sequence[PictureEvent]) -> str:
    """Pictures as a BIDS table of events: onset and duration (s), trial_type, stim_file."""
    rows = (
        f"{event.onset:.6g}\t{event.duration:.6g}\t{event.condition or 'n/a'}\t"
        f"{'n/a' if event.file is None else event.file.name}"
        for event in events
    )
    return "\n".join(["onset\tduration\ttrial_type\tstim_file", *rows]) + "\n"


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
