"""Tiny copies of the layouts of the studies that the published model was trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from makers import write_film, write_sound

MNI = "space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"


def write_volume(path: Path, rows: int, seconds: float, offset: float = 0.0) -> Path:
    """A run in 12 mm voxels: row number + offset left of the midline, 1000 more to the right."""
    import nibabel as nib

    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([12.0, 12.0, 12.0, 1.0])
    affine[:3, 3] = -96, -132, -78
    values = np.empty((17, 20, 16, rows), np.float32)
    values[:8] = np.arange(rows) + offset
    values[8:] = np.arange(rows) + offset + 1000
    image = nib.Nifti1Image(values, affine)
    image.header.set_zooms((12, 12, 12, seconds))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def sides(values: np.ndarray) -> np.ndarray:
    """Median of each hemisphere (time, 2), to compare with what `write_volume` wrote."""
    left, right = np.split(values, 2, axis=1)
    return np.stack([np.nanmedian(left, 1), np.nanmedian(right, 1)], axis=1)


def written(rows: int, offset: float = 0.0) -> np.ndarray:
    """Values (time, 2) that `write_volume` writes left and right."""
    return np.arange(rows)[:, None] + offset + np.array([0, 1000])


def make_film(path: Path, seconds: int, brightness: int) -> Path:
    """A silent film of a frame a second, which differs by its brightness."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((seconds, 32, 32, 3), brightness, np.uint8)
    return write_film(path, frames, rate=1)


# Algonauts 2025, Courtois NeuroMod

ALGONAUTS_PEOPLE = ("01", "05")
ALGONAUTS_ROWS = 12
ALGONAUTS_FILM = 15  # s; the rows last 17.88 s
FRIENDS = ("ses-001_task-s01e02a", "ses-001_task-s01e02b", "ses-004_task-s06e24d")
MOVIE10 = ("ses-001_task-bourne01", "ses-006_task-life01_run-1", "ses-009_task-life01_run-2")
SKIPPED = "ses-003_task-s05e20a"
SENTENCES = (("So", 0.6, 0.2), ("this", 1.4, 0.3), ("isn't", 1.75, 0.25), ("it", 9.0, 0.1))


def algonauts_bold(person: str, key: str) -> np.ndarray:
    """BOLD (rows, 1000) whose every value tells person, key, row and parcel."""
    row, parcel = np.ogrid[:ALGONAUTS_ROWS, :1000]
    first = int(person) + 10 * (FRIENDS + MOVIE10 + (SKIPPED,)).index(key)
    return (first + np.sin(0.4 * row + parcel)).astype("f4")


def parcels_file(folder: Path, person: str, task: str) -> Path:
    marks = {"friends": "_desc-s123456", "movie10": ""}[task]
    return (
        folder
        / f"fmri/sub-{person}/func"
        / (
            f"sub-{person}_task-{task}_space-MNI152NLin2009cAsym_atlas-Schaefer18_"
            f"parcel-1000Par7Net{marks}_bold.h5"
        )
    )


def write_hdf5(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key] = values
    return path


def change_hdf5(path: Path, key: str, values: np.ndarray | None) -> None:
    """Replace an array, or take it away."""
    import h5py

    with h5py.File(path, "a") as file:
        if key in file:
            del file[key]
        if values is not None:
            file[key] = values


def write_transcript(path: Path, words: Sequence[tuple[str, float, float]]) -> Path:
    """A row each 1.49 s, in which the words stand that end in it, as pandas writes lists."""
    import pandas as pd

    rows = []
    for number in range(ALGONAUTS_ROWS):
        inside = [w for w in words if number * 1.49 <= w[1] + w[2] < (number + 1) * 1.49]
        rows.append(
            {
                "text_per_tr": " ".join(text for text, *_ in inside) or None,
                "words_per_tr": [text for text, *_ in inside],
                "onsets_per_tr": [onset for _, onset, _ in inside],
                "durations_per_tr": [length for *_, length in inside],
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    return path


def make_stimuli(folder: Path) -> Path:
    """Films and transcripts of `FRIENDS` and `MOVIE10`."""
    for number, key in enumerate(FRIENDS + MOVIE10[:2]):
        task = key.split("task-")[1].split("_run")[0]
        if key in FRIENDS:
            below, name, words = f"friends/s{int(task[1:3])}", f"friends_{task}", f"friends_{task}"
        else:
            below, name, words = f"movie10/{task[:-2]}", task, f"movie10_{task}"
        make_film(folder / "movies" / below / f"{name}.mkv", ALGONAUTS_FILM, 40 * number)
        write_transcript(folder / "transcripts" / below / f"{words}.tsv", SENTENCES)
    return folder


def make_algonauts(folder: Path) -> Path:
    """``algonauts_2025.competitors``: two people, three parts of Friends, three film runs."""
    for person in ALGONAUTS_PEOPLE:
        for task, keys in (("friends", (*FRIENDS, SKIPPED)), ("movie10", MOVIE10)):
            arrays = {key: algonauts_bold(person, key) for key in keys}
            write_hdf5(parcels_file(folder, person, task), arrays)
    make_stimuli(folder / "stimuli")
    return folder


def make_cneuromod(folder: Path) -> Path:
    """``friends.fmriprep`` and ``movie10.fmriprep`` of one person."""
    for number, key in enumerate((*FRIENDS[:2], *MOVIE10[1:])):
        tree = "friends.fmriprep" if key in FRIENDS else "movie10.fmriprep"
        func = folder / tree / "sub-03" / key.split("_")[0] / "func"
        write_volume(func / f"sub-03_{key}_{MNI}", ALGONAUTS_ROWS, 1.49, 10 * number)
        (func / f"sub-03_{key}_desc-confounds_timeseries.tsv").write_text("csf\n")
        (func / f"sub-03_{key}_space-T1w_desc-preproc_bold.nii.gz").touch()
    return folder


# BOLD Moments

MOMENTS_ROWS = {"train": 238, "test": 268}
TRAIN_CLIPS = {1: ("0603", "0621", "0139"), 2: ("0139", "0271", "0603")}
TEST_CLIPS = {1: ("1075", "1014"), 2: ("1014", "1075")}


def moments_events(task: str, clips: Sequence[str]) -> str:
    """Events as in the data set: every 4 s and some ms a clip, the second one an oddball."""
    rows = ["onset\tduration\tstim_file\ttrial_type\tvalue", "8.004\t3.000\tn/a\toddball\t1"]
    for place, clip in enumerate(clips):
        onset = 4.002 + 8.004 * place
        rows.insert(
            -1 if place == 0 else len(rows), f"{onset:.3f}\t3.000\t{task}/{clip}.mp4\t{task}\t0"
        )
    return "\n".join(rows) + "\n"


def moments_file(folder: Path, task: str, run: int, ending: str) -> Path:
    prepared = not ending.startswith("events")
    root = folder / "derivatives/versionB/fmriprep" if prepared else folder
    number = f"{run:02d}" if ending == MNI else str(run)
    name = f"sub-01_ses-02_task-{task}_run-{number}_{ending}"
    path = root / "sub-01/ses-02/func" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def make_bold_moments(folder: Path) -> Path:
    """ds005165: one session with two runs of each task, as volumes; clips that are no films."""
    for task, runs in (("train", TRAIN_CLIPS), ("test", TEST_CLIPS)):
        stimuli = folder / "stimulus_set/stimuli" / task
        stimuli.mkdir(parents=True)
        for run, clips in runs.items():
            moments_file(folder, task, run, "events.tsv").write_text(moments_events(task, clips))
            volume = moments_file(folder, task, run, MNI)
            write_volume(volume, MOMENTS_ROWS[task], 1.75, 10 * run)
            moments_file(folder, task, run, "desc-confounds_timeseries.tsv").write_text("csf\n")
            for clip in clips:
                (stimuli / f"{clip}.mp4").write_bytes(f"film {clip}".encode())
    (folder / "sub-01/ses-01/func").mkdir(parents=True)  # localizers, which are not read
    return folder


def write_moments_surface(folder: Path, task: str, run: int, rows: int) -> None:
    """fsaverage's surfaces of a run: row number on the left, 1000 more on the right."""
    import nibabel as nib

    for side, more in (("L", 0), ("R", 1000)):
        arrays = [
            nib.gifti.GiftiDataArray(
                np.full(163842, row + more, np.float32),
                intent="NIFTI_INTENT_TIME_SERIES",
                datatype="NIFTI_TYPE_FLOAT32",
            )
            for row in range(rows)
        ]
        path = moments_file(folder, task, run, f"hemi-{side}_space-fsaverage_bold.func.gii")
        nib.save(nib.gifti.GiftiImage(darrays=arrays), path)
        path.with_name(path.name.replace(".func.gii", ".json")).write_text(
            json.dumps({"RepetitionTime": 1.75})
        )


# LeBel 2023

LEBEL_STORIES = {"alternateithicatom": 60.0, "souls": 70.0, "wheretheressmoke": 80.0}
"""Stories and how many seconds they last here."""
LEBEL_PEOPLE = {"UTS01": 50, "UTS04": 40}
"""People and their voxels."""
LEBEL_LABELS = [
    (0.0, 1.0, "{BR}"),
    (1.0, 1.5, "i"),
    (1.5, 2.0, "reached"),
    (2.0, 3.0, "{NS}"),
    (3.0, 3.4, "over"),
    (3.4, 4.0, "sp"),
    (4.0, 5.0, "sentence_end"),
    (5.0, 5.6, "and"),
    (5.6, 6.0, "LG"),
]


def lebel_rows(story: str) -> int:
    """Rows of a ``.hf5``: from second 10 of the story to 10 s before its end."""
    return int((LEBEL_STORIES[story] - 20) / 2)


def lebel_bold(person: str, story: str) -> np.ndarray:
    row, voxel = np.ogrid[: lebel_rows(story), : LEBEL_PEOPLE[person]]
    return np.sin(row + 0.1 * voxel) + len(story) + 100.0 * int(person[-1])


def text_grid(length: float) -> str:
    """Praat's short text format, with a tier of phones and one of words."""
    labels = [*LEBEL_LABELS, (6.0, length, "")]
    lines = ['"ooTextFile"', '"TextGrid"', "", "0", f"{length}", "<exists>", "2"]
    for name, tier in (("phone", [(0.0, length, "AY1")]), ("word", labels)):
        lines += ['"IntervalTier"', f'"{name}"', "0", f"{length}", str(len(tier))]
        for start, end, text in tier:
            lines += [f"{start}", f"{end}", f'"{text}"']
    return "\n".join(['File type = "ooTextFile"', 'Object class = "TextGrid"', *lines[2:]]) + "\n"


def make_lebel(folder: Path) -> Path:
    """ds003020: sounds, TextGrids and ``.hf5`` of three stories and two people."""
    grids = folder / "derivative/TextGrids"
    grids.mkdir(parents=True)
    (folder / "stimuli").mkdir()
    for number, (story, length) in enumerate(LEBEL_STORIES.items()):
        sound = np.full(int(1000 * length), 0.1 * number)
        write_sound(folder / "stimuli" / f"{story}.wav", sound, 1000)
        (grids / f"{story}.TextGrid").write_text(text_grid(length))
        for person in LEBEL_PEOPLE:
            path = lebel_array(folder, person, story)
            write_hdf5(path, {"data": lebel_bold(person, story)})
    return folder


def lebel_array(folder: Path, person: str, story: str) -> Path:
    return folder / "derivative/preprocessed_data" / person / f"{story}.hf5"


LEBEL_RAW = (
    "sub-UTS01_ses-1_task-CategoryLocalizer2_run-1",
    "sub-UTS01_ses-1_task-MotorLocalizer_run-2",
    "sub-UTS01_ses-2_task-alternateithicatom",
    "sub-UTS01_ses-2_task-wheretheressmoke_run-1",
    "sub-UTS01_ses-7_task-treasureisland",
    "sub-UTS01_ses-10_task-wheretheressmoke_run-10",
)


def lebel_volume(folder: Path, stem: str, resolution: str = "") -> Path:
    subject, session = stem.split("_")[:2]
    name = f"{stem}_{MNI}".replace("_desc-preproc", f"{resolution}_desc-preproc")
    return folder / "derivatives/fmriprep" / subject / session / "func" / name


def add_lebel_volumes(folder: Path) -> Path:
    """Raw runs (empty files) of one person, and what fMRIPrep makes of them."""
    for number, stem in enumerate(LEBEL_RAW):
        subject, session, task = stem.split("_")[:3]
        raw = folder / subject / session / "func" / f"{stem}_bold.nii.gz"
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.touch()
        story = task.removeprefix("task-")
        if story in LEBEL_STORIES:
            rows = int((LEBEL_STORIES[story] + 20) / 2)
            write_volume(lebel_volume(folder, stem), rows, 2.0, 10 * number)
    return folder


# Wen 2017

WEN_SHOWINGS = {"seg1": 2, "test1": 1, "test2": 2}


def wen_file(folder: Path, subject: int, segment: str, showing: int, mark: str = "_") -> Path:
    below = folder / f"video_fmri_dataset/subject{subject}/fmri/{segment}/mni"
    return below / f"{segment}_{showing}{mark}mni.nii.gz"


def make_wen(folder: Path) -> Path:
    """``video_fmri_dataset`` with two people; the header says 1 s; test2 has the odd names."""
    for number, (segment, showings) in enumerate(WEN_SHOWINGS.items()):
        make_film(folder / f"video_fmri_dataset/stimuli/{segment}.mp4", 480, 60 * number)
        rows, mark = (246, ".") if segment == "test2" else (245, "_")
        first = write_volume(wen_file(folder, 1, segment, 1, mark), rows, 1.0, 10 * number)
        for subject in (1, 3):
            for showing in range(1, showings + 1):
                path = wen_file(folder, subject, segment, showing, mark)
                path.parent.mkdir(parents=True, exist_ok=True)
                if path != first:
                    shutil.copy(first, path)
    return folder
