"""Tiny copies of the layouts of the studies that are kept for testing.

Names, columns, repetition times and numbers of volumes are those of the data sets; grids are
coarse, meshes small, and sounds are silent but for a few samples that tell them apart.
"""

from __future__ import annotations

import json
import wave
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import cifti2

from tribrain.brain.spaces import MESHES
from tribrain.brain.surface_files import write_gifti

# 18 mm voxels around the whole brain, x to the left as in AFNI's templates.
SHAPE = (12, 14, 11)
AFFINE = np.array([[-18.0, 0, 0, 99], [0, 18, 0, -126], [0, 0, 18, -78], [0, 0, 0, 1]])


def write_sound(path: Path, duration: float, mark: int = 1, rate: int = 400) -> Path:
    """A WAV file (mono, 16 bit) whose first samples are `mark`."""
    samples = np.zeros(round(duration * rate), "<i2")
    samples[:50] = 100 * mark
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def write_film(path: Path, frames: int, rate: int = 5) -> Path:
    """A film without sound, of grey frames that grow lighter."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(frames):
            picture = np.full((32, 32, 3), number % 200, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode())
    return path


def write_ramp(
    path: Path, volumes: int, repetition_time: float | None, person: int = 0, nan: int | None = None
) -> Path:
    """A 4-D volume: 0.1 a mm to the right, 1 a volume, 100 a person; volume `nan` is NaN."""
    right = (AFFINE[0, 0] * np.arange(SHAPE[0]) + AFFINE[0, 3])[:, None, None, None]
    ramp = 0.1 * right + np.arange(volumes) + 100 * person
    data = np.broadcast_to(ramp, (*SHAPE, volumes)).astype(np.float32)
    if nan is not None:
        data[..., nan] = np.nan
    image = nib.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm", "unknown" if repetition_time is None else "sec")
    image.header["pixdim"][4] = repetition_time or 0
    path.parent.mkdir(parents=True, exist_ok=True)
    image.to_filename(path)
    return path


# ---------------------------------------------------------------------------- Narratives

EVENTS = {
    "pieman": [(0.0, 13.0, "music", "pieman"), (15.0, 22.0, "story", "pieman")],
    "milkyway": [(0.0, 18.0, "music", "milkywayvodka"), (21.0, 9.0, "story", "milkywayvodka")],
    "notthefalllongscram": [
        (4.5, 4.0, "music", "notthefalllongscram"),
        (12.0, 20.0, "story", "notthefalllongscram"),
    ],
    "tunnel": [(3.0, 30.0, "story", "tunnel")],
    "schema": [(5.0, 6.0, "movie", None), (12.93, 9.0, "story", "friends"),
               (25.0, 8.0, "story", "bigbang")],
}  # fmt: skip
NARRATIVES = {
    "sub-001_task-pieman_run-1": "pieman",
    "sub-001_task-pieman_run-2": "pieman",
    "sub-001_task-tunnel": "tunnel",
    "sub-023_task-milkyway": "milkyway",
    "sub-023_task-notthefalllongscram": "notthefalllongscram",
    "sub-049_task-schema_run-1": "schema",
}
NARRATIVES_VOLUMES = 26  # of 1.5 s
ALIGN = """\
I,i,15.5,15.7
began,began,15.7,16.1
my,my,,
illustrious,<unk>,,
career,career,18.1,18.6
"Bronx",bronx,36.9,37
"""


def narratives_bold(stem: str, mesh: str = "fsaverage5") -> np.ndarray:
    """BOLD (time, 2 n) whose every value tells run, volume, vertex and hemisphere."""
    run = list(NARRATIVES).index(stem)
    time, vertex = np.ogrid[:NARRATIVES_VOLUMES, : 2 * MESHES[mesh]]
    return (1000 * run + 10 * time + vertex / (2 * MESHES[mesh])).astype(np.float32)


def write_surfaces(
    folder: Path, stem: str, values: np.ndarray, mesh: str, tr: float | None
) -> None:
    n = values.shape[1] // 2
    for letter, side, part in (("L", "left", values[:, :n]), ("R", "right", values[:, n:])):
        name = f"{stem}_space-{mesh}_hemi-{letter}_desc-clean.func.gii"
        write_gifti(folder / name, part, side, tr)


def make_narratives(folder: Path, mesh: str = "fsaverage5") -> Path:
    """A folder as ds002345: three people, six runs."""
    for stem, task in NARRATIVES.items():
        person = stem.split("_")[0]
        (folder / person / "func").mkdir(parents=True, exist_ok=True)
        rows = ["onset\tduration\ttrial_type\tstim_file"]
        for onset, duration, kind, sound in EVENTS[task]:
            file = "n/a" if sound is None else f"{sound}_audio.wav"
            rows.append(f"{onset}\t{duration}\t{kind}\t{file}")
        events = folder / person / "func" / f"{stem}_events.tsv"
        events.write_text("\n".join(rows) + "\n", encoding="utf-8")
        func = folder / "derivatives" / "afni-nosmooth" / person / "func"
        func.mkdir(parents=True, exist_ok=True)
        write_surfaces(func, stem, narratives_bold(stem, mesh), mesh, 1.5)
    sounds = {row[3] for rows in EVENTS.values() for row in rows if row[3]}
    for number, sound in enumerate(sorted(sounds), start=1):
        write_sound(folder / "stimuli" / f"{sound}_audio.wav", 40.0, number)
        if "scram" not in sound:
            gentle = folder / "stimuli" / "gentle" / sound
            gentle.mkdir(parents=True)
            (gentle / "align.csv").write_text(ALIGN, encoding="utf-8")
    (folder / "code").mkdir()
    (folder / "code" / "scan_exclude.json").write_text(json.dumps({"tunnel": {}}))
    return folder


# ---------------------------------------------------------------------------- Le Petit Prince

LPP_VOLUMES = {
    "EN": (282, 298, 340, 303, 265, 343, 325, 292, 368),
    "CN": (283, 322, 322, 307, 293, 392, 364, 293, 401),
    "FR": (309, 326, 354, 315, 293, 378, 332, 294, 336),
}
LPP_PEOPLE = {
    "EN057": range(15, 24),
    "FR001": range(1, 10),
    "CN001": (4, 5, 6, 7, 9, 10, 11, 12, 13),
}
"""The numbers of the runs of each."""
LPP_WORDS = {
    "EN": ("Once", "when", "I", "was", "six"),
    "CN": ("当", "我", "还", "只有", "六岁"),
    "FR": ("Lorsque", "j'", "avais", "six", "ans"),
}


def lpp_bold(folder: Path, person: str, number: int) -> Path:
    name = f"sub-{person}_task-lpp{person[:2]}_run-{number:02d}"
    name += "_space-MNIColin27_desc-preproc_bold.nii.gz"
    return folder / "derivatives" / f"sub-{person}" / "func" / name


def make_lpp(folder: Path) -> Path:
    """A folder as ds003643: a person of each language, all nine runs."""
    for person, numbers in LPP_PEOPLE.items():
        language = person[:2]
        for number, volumes in zip(numbers, LPP_VOLUMES[language], strict=True):
            write_ramp(lpp_bold(folder, person, number), volumes, 2.0)
        rows = [",word,lemma,onset,offset,logfreq,pos,section"]
        for section in range(1, 10):
            for place, word in enumerate(LPP_WORDS[language]):
                onset = 0.1 + place + section / 100
                rows.append(f"{len(rows) - 1},{word},{word},{onset},{onset + 0.5},1,X,{section}")
            # Rows without a word are in the French table.
            rows.append(f"{len(rows) - 1},,,20,20.1,,,{section}")
        annotation = folder / "annotation" / language
        annotation.mkdir(parents=True)
        table = annotation / f"lpp{language}_word_information.csv"
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    for section in range(1, 10):
        write_sound(folder / "stimuli" / f"task-lppEN_section-{section}.wav", 30, section)
        write_sound(folder / "stimuli" / f"task-lppFR_section_{section}.wav", 30, 10 + section)
    return folder


# ---------------------------------------------------------------------------- NNDb

NNDB_PEOPLE = {"1": "500daysofsummer", "2": "500daysofsummer", "63": "littlemisssunshine"}
NNDB_VOLUMES = {"500daysofsummer": 5470, "littlemisssunshine": 5900}
NNDB_WORDS = "this 3.21 3.45\nis 3.45 3.6\na 3.6 3.7\nstory 5000.5 5001.25\n"


def nndb_bold(folder: Path, person: str, kind: str = "no_blur_no_censor_ica") -> Path:
    name = f"sub-{person}_task-{NNDB_PEOPLE[person]}_bold_{kind}.nii.gz"
    return folder / "derivatives" / f"sub-{person}" / "func" / name


def make_nndb(folder: Path) -> Path:
    """A folder as ds002837: three people, two films."""
    for number, (person, film) in enumerate(NNDB_PEOPLE.items()):
        write_ramp(nndb_bold(folder, person), NNDB_VOLUMES[film], 1.0, person=number)
    (folder / "stimuli").mkdir()
    for film in NNDB_VOLUMES:
        words = folder / "stimuli" / f"task-{film}_word-annotation.1D"
        words.write_text(NNDB_WORDS.replace("story", film), encoding="utf-8")
        faces = folder / "stimuli" / f"task-{film}_face-annotation.1D"
        faces.write_text("0.5 1.25\n7 2\n", encoding="utf-8")
    return folder


# ---------------------------------------------------------------------------- HCP 7T movies

HCP_PEOPLE = ("100610", "102311")
HCP_RUNS = {
    "tfMRI_MOVIE1_7T_AP": ("7T_MOVIE1_CC1", 921),
    "tfMRI_MOVIE2_7T_PA": ("7T_MOVIE2_HO1", 918),
    "tfMRI_MOVIE3_7T_PA": ("7T_MOVIE3_CC2", 915),
    "tfMRI_MOVIE4_7T_AP": ("7T_MOVIE4_HO2", 901),
}
HCP_VERTICES = {"left": np.arange(3, 32492, 1500), "right": np.arange(7, 32492, 1400)}
# As the HCP's table is parted: a title, names of columns, a row a block; lines end in \r.
HCP_TIMING = "".join(
    f"{film}_v2,,,\rmovie.block,start,end,duration\r0,0,5,5\r{run}.1,5,20.04,15.04\r"
    f"0,20.04,25.04,5\r{run}.2,25.04,{32.04 + run},{7 + run}\r0,{32.04 + run},{37.04 + run},5\r"
    f"{run}.3,{37.04 + run},{41.04 + run},4\r"
    for run, (film, _) in enumerate(HCP_RUNS.values(), start=1)
)


def hcp_bold(folder: Path, person: str, scan: str, kind: str = "") -> Path:
    name = f"{scan}_Atlas_{kind}MSMAll_hp2000_clean.dtseries.nii"
    return folder / person / "MNINonLinear" / "Results" / scan / name


def write_cifti(
    path: Path, rows: int, step: float = 1.0, offset: float = 0.0, nan: slice | None = None
) -> np.ndarray:
    """A dense series of some vertices of each hemisphere: (rows, left and right vertices)."""
    left, right = (
        cifti2.BrainModelAxis.from_surface(HCP_VERTICES[side], 32492, f"Cortex{side.title()}")
        for side in ("left", "right")
    )
    brain = left + right
    time, vertex = np.ogrid[:rows, : len(brain)]
    values = (offset + 10 * time + vertex / len(brain)).astype(np.float32)
    if nan is not None:
        values[nan] = np.nan
    path.parent.mkdir(parents=True, exist_ok=True)
    image = cifti2.Cifti2Image(values, (cifti2.SeriesAxis(0, step, rows), brain))
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    image.to_filename(path)
    return values


def make_hcp(folder: Path) -> Path:
    """A folder of two people with their four runs, and the films of both versions."""
    for number, person in enumerate(HCP_PEOPLE):
        for scan, (_, rows) in HCP_RUNS.items():
            write_cifti(hcp_bold(folder, person, scan), rows, offset=1e5 * number)
    for number, (film, _) in enumerate(HCP_RUNS.values(), start=1):
        write_film(folder / "movies" / "Pre_20140821_version" / f"{film}.mp4", 4 + number)
        write_film(folder / "movies" / "Post_20140821_version" / f"{film}_v2.mp4", 14 + number)
    return folder
