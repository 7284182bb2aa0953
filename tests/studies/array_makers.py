"""Tiny copies of the layouts of studies whose BOLD lies in arrays and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SONG_ROWS = {"sitcomep1": 60, "sitcomep2": 50, "documentary": 40}
SONG_PEOPLE = ("sub-001", "sub-002", "sub-027")
ALICE_PEOPLE = ("s18", "s22", "s45")


def song_bold(film: str, people: int = len(SONG_PEOPLE)) -> np.ndarray:
    """BOLD (people, rows, 200) whose every value tells person, row and parcel."""
    rows = SONG_ROWS[film]
    person, row, parcel = np.ogrid[:people, :rows, :200]
    return (np.sin(0.3 * row * (1 + parcel / 200)) + 10 * person + 0.1 * parcel).astype("f2")


def song_components(film: str) -> np.ndarray:
    return np.random.default_rng(len(film)).normal(size=(SONG_ROWS[film], 100))


def make_song(folder: Path) -> Path:
    """A folder as that of SONG: three people, three short films."""
    arrays = {film: song_bold(film) for film in SONG_ROWS}
    names = {f"{film}_subjects": np.array(SONG_PEOPLE) for film in SONG_ROWS}
    (folder / "input").mkdir(parents=True)
    np.savez_compressed(folder / "song_schaefer200_float16.npz", **arrays, **names)
    for film in SONG_ROWS:
        np.save(folder / "input" / f"{film}_input_pc.npy", song_components(film))
    return folder


def change_song(folder: Path, **arrays: np.ndarray) -> None:
    """Write SONG's recordings again with other arrays."""
    path = folder / "song_schaefer200_float16.npz"
    with np.load(path) as old:
        np.savez_compressed(path, **{**{key: old[key] for key in old.files}, **arrays})


def alice_bold(person: int) -> np.ndarray:
    """BOLD (362, 6) whose every value tells person, row and region."""
    row, region = np.ogrid[:362, :6]
    return 100 + 10 * person + np.sin(0.1 * row * (1 + region)) + region


def make_alice(folder: Path) -> Path:
    """A folder as that of Alice: three people, and seven words with a pause."""
    data, stimulus = folder / "alice_data_shared", folder / "alice_stim_shared"
    stimulus.mkdir(parents=True)
    for radius in ("10mm", "6mm"):
        (data / radius).mkdir(parents=True)
    rows = np.arange(372.0)[:, None]
    for number, person in enumerate(ALICE_PEOPLE):
        for radius, scale in (("10mm", 1.0), ("6mm", 2.0)):
            table = scale * alice_bold(number)
            np.savetxt(data / radius / f"{person}-timecourses.txt", table, fmt="%16.7e")
        np.savetxt(data / f"{person}-rate.txt", rows[:362] + number)
        np.savetxt(data / f"{person}-sndpwr.txt", -rows[:362])
        # The motion of later people lies in files of other names, as in the data set.
        protocol = "epiRTwm2_scan_0004__003" if number < 2 else "run05.e02"
        np.savetxt(data / f"{person}-rp_{protocol}.txt", rows + np.arange(6) / 10)
    predictors = data / "sept18-generic-predictors-under-hrf-with-logfrqhal.txt"
    np.savetxt(predictors, rows + np.arange(12) / 100, delimiter="\t")
    grid = stimulus / "DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
    grid.write_text(text_grid(ALICE_WORDS), encoding="utf-8")
    return folder


ALICE_WORDS = [
    (12.0, 20.0, "sp"),
    (20.0, 20.6, "Alice"),
    (20.6, 20.8, "was"),
    (20.8, 21.3, "beginning"),
    (21.3, 21.4, "to"),
    (21.4, 300.0, "sp"),
    (300.0, 300.4, "get"),
    (300.4, 301.0, "very"),
    (301.0, 740.5, "sp"),
    (740.5, 741.0, "tired"),
    (741.0, 744.0, "sp"),
]


def text_grid(intervals: list[tuple[float, float, str]]) -> str:
    """Praat's long text format with one tier, as Penn's aligner writes it."""
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        f"xmin = {intervals[0][0]}",
        f"xmax = {intervals[-1][1]}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "word"',
        f"        xmin = {intervals[0][0]}",
        f"        xmax = {intervals[-1][1]}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (start, end, text) in enumerate(intervals, start=1):
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {start}",
            f"            xmax = {end}",
            f'            text = "{text}"',
        ]
    return "\n".join(lines) + "\n"
