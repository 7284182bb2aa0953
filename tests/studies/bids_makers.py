"""Writes tiny BIDS data sets with the derivatives of fMRIPrep, and damages them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np

from makers import write_sound
from tribrain.brain.surface_files import write_gifti

TR = 2.0
VOLUMES = 12
SOUNDS = {"harbour": 20.0, "market": 16.0}
"""Stimuli of the data set, and seconds that they last."""
PEOPLE = ("01", "02")
FMRIPREP = Path("derivatives", "fmriprep")
N = 642


def make_bids(folder: Path) -> Path:
    """Two people hear two sounds in fsaverage3: each in a run, of which the first is padded.

    The runs are ``sub-01_task-listen_run-1`` (harbour from 2 s on) and ``run-2`` (market from
    4 s on) of each person. Raw names are padded with a zero, those of surfaces are not.
    """
    write_json(
        folder / "dataset_description.json",
        {
            "Name": "Harbour sounds",
            "BIDSVersion": "1.9.0",
            "License": "CC0",
            "HowToAcknowledge": "Someone et al. 2020",
            "DatasetDOI": "doi:10.0000/nothing",
        },
    )
    write_json(folder / "task-listen_bold.json", {"RepetitionTime": TR, "TaskName": "listen"})
    for number, (name, seconds) in enumerate(SOUNDS.items()):
        make_sound(folder / "stimuli" / f"{name}.wav", seconds, number)
    (folder / "stimuli" / "harbour_words.tsv").write_text(
        "word\tonset\tduration\nthe\t1.0\t0.2\nboat\t1.5\t0.4\n"
    )
    for person in PEOPLE:
        for number, (name, seconds) in enumerate(SOUNDS.items(), start=1):
            raw = f"sub-{person}_task-listen_run-{number:02d}"
            func = folder / f"sub-{person}" / "func"
            func.mkdir(parents=True, exist_ok=True)
            (func / f"{raw}_bold.nii.gz").write_bytes(b"")  # never read
            make_events(func / f"{raw}_events.tsv", [(2.0 * number, seconds, f"{name}.wav")])
            make_surfaces(folder / FMRIPREP, person, number)
    return folder


def write_json(path: Path, fields: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields))


def make_sound(path: Path, seconds: float, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(4000 * seconds))
    return write_sound(path, noise, 4000)


def make_events(path: Path, rows: list[tuple], more: tuple[str, ...] = ()) -> None:
    """A table of onset, duration, file and, after ``trial_type``, what more says."""
    lines = ["\t".join(("onset", "duration", "stim_file", "trial_type", *more))]
    for onset, duration, file, *others in rows:
        cells = [onset, duration, file, *(others or ["story"])]
        lines.append("\t".join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n")


def bold_values(person: str, number: int, n: int = VOLUMES) -> np.ndarray:
    """BOLD (n, 1284) of a run: no two runs, and no two hemispheres, are alike."""
    rng = np.random.default_rng([int(person), number])
    values = rng.normal(size=(VOLUMES, 2 * N)).astype(np.float32)
    values[:, N:] += 100
    return values[:n]


def surface_path(root: Path, person: str, number: int | str, side: str) -> Path:
    """fMRIPrep's name of a hemisphere, of which the number of the run is not padded."""
    name = f"sub-{person}_task-listen_run-{number}_hemi-{side}_space-fsaverage3_bold.func.gii"
    return root / f"sub-{person}" / "func" / name


def make_surfaces(
    root: Path, person: str, number: int, values: np.ndarray | None = None, tr: float = TR
) -> None:
    """Both hemispheres of a run, their sidecars, and its confounds."""
    values = bold_values(person, number) if values is None else values
    parts = {"L": ("left", values[:, :N]), "R": ("right", values[:, N:])}
    for side, (hemisphere, part) in parts.items():
        path = surface_path(root, person, number, side)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_gifti(path, part, hemisphere, tr)
        write_json(sidecar_of(path), {"RepetitionTime": tr})
    confounds = f"sub-{person}_task-listen_run-{number}_desc-confounds_timeseries.tsv"
    rows = "\n".join(["trans_x", *["0.1"] * len(values)])
    (path.parent / confounds).write_text(rows + "\n")


def sidecar_of(path: Path) -> Path:
    return path.with_name(re.sub(r"(\.func\.gii|\.nii(\.gz)?)$", "", path.name) + ".json")


def make_volume(path: Path, n: int = VOLUMES, tr: float = TR, seed: int = 0) -> Path:
    """Volumes of 6 mm that cover the brain: at x mm, about x; in volume t, 10 t more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = -90, -126, -72
    shape = (31, 37, 31)
    x = np.broadcast_to((affine[0, 0] * np.arange(31) - 90)[:, None, None], shape)
    noise = np.random.default_rng(seed).normal(0, 0.01, shape)
    data = np.stack([x + noise + 10 * t for t in range(n)], axis=-1).astype(np.float32)
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = tr
    image.header.set_sform(affine, code=4)
    nib.save(image, path)
    return path
