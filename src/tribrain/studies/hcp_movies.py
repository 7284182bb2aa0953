"""HCP 7T movies: 184 people watch clips in four runs (Human Connectome Project, S1200 release).

Each person's folder, and the films of the release's "7T movie" resources::

    100610/MNINonLinear/Results/tfMRI_MOVIE1_7T_AP/
        tfMRI_MOVIE1_7T_AP_Atlas_MSMAll_hp2000_clean.dtseries.nii         fsLR, 32k vertices
        tfMRI_MOVIE1_7T_AP_Atlas_1.6mm_MSMAll_hp2000_clean.dtseries.nii   59k; not read
    movies/Post_20140821_version/7T_MOVIE1_CC1_v2.mp4
    movies/Pre_20140821_version/7T_MOVIE1_CC1.mp4
    movies/HCP_7T_Movie_Clip_Timing.csv

What is from where: repetition time, protocol, the last clip of each run being the same and the
two versions of the films (147 people, scanned before 22 August 2014, saw the first) from the
HCP's pages; the names of the files, and the form of the table of clips, from public code that
reads them.

Clocks: the film of a run begins with its first volume, so a clip's second in the film is its
second in the run. Before, between and after the clips are 20 s of rest. Where the HCP's own table
of clips is there, its times are used; else `CLIPS`, in whole seconds, in which public code of
several authors agrees; the table itself, with fractions of a second, could not be seen.

Groups: a clip is a group (``hcp-MOVIE1.2`` is the second of the first run), and the last clips of
the four runs are one group, `REPEATED`: they are the same 83 s in four different files, which no
comparison of files would find.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tribrain.errors import InputError
from tribrain.stimuli.encoding import read_any_text
from tribrain.studies.runs import Problem, Run, Shown, StimulusFile
from tribrain.studies.sources import CiftiBold
from tribrain.studies.spoken import seconds
from tribrain.studies.usable import usable

REPETITION_TIME = 1.0
RUNS = {
    "tfMRI_MOVIE1_7T_AP": "7T_MOVIE1_CC1",
    "tfMRI_MOVIE2_7T_PA": "7T_MOVIE2_HO1",
    "tfMRI_MOVIE3_7T_PA": "7T_MOVIE3_CC2",
    "tfMRI_MOVIE4_7T_AP": "7T_MOVIE4_HO2",
}
"""Film of each run."""
Span = tuple[float, float]
CLIPS: dict[str, tuple[Span, ...]] = {
    "7T_MOVIE1_CC1": ((20, 264), (284, 506), (526, 714), (734, 798), (818, 901)),
    "7T_MOVIE2_HO1": ((20, 247), (267, 525), (545, 795), (815, 898)),
    "7T_MOVIE3_CC2": ((20, 201), (221, 405), (425, 629), (649, 792), (812, 895)),
    "7T_MOVIE4_HO2": ((20, 252), (272, 502), (522, 777), (797, 880)),
}
"""First and last second of each clip in its film."""
REPEATED = "hcp-repeated"
FOLDERS = {1: "Pre_20140821_version", 2: "Post_20140821_version"}
TIMING = "HCP_7T_Movie_Clip_Timing.csv"


def read_clips(path: Path) -> dict[str, tuple[Span, ...]]:
    """First and last second of each clip, by film, from the HCP's table.

    A line ``7T_MOVIE1_CC1_v2...`` begins the rows of a film: block, start, end, duration in
    seconds; block 0 is rest, 1.2 the second clip of the first film.

    Raises
    ------
    InputError
        A row that is none of these; a film without clips; clips that overlap.
    """
    content, _ = read_any_text(path, "table of clips")
    clips: dict[str, list[Span]] = {}
    film = None
    for number, line in enumerate(content.splitlines(), start=1):
        where = f"{path.name}, row {number}"
        cells = [cell.strip() for cell in line.split(",")]
        if cells[0].startswith("7T_MOVIE"):
            named = [known for known in CLIPS if cells[0].startswith(known)]
            if not named:
                raise InputError(
                    f"{where}: film {cells[0]!r} is unknown; known: {', '.join(CLIPS)}"
                )
            film = named[0]
            clips[film] = []
        elif film is None or not cells[0][:1].isdigit():  # a title, names of columns, an empty row
            continue
        elif len(cells) < 3:
            raise InputError(f"{where}: {line!r}; block, start and end fit")
        else:
            start, end = seconds(cells[1], "start", where), seconds(cells[2], "end", where)
            if seconds(cells[0], "block", where) == 0:
                continue
            if not max((last for _, last in clips[film]), default=0.0) <= start < end:
                raise InputError(f"{where}: a clip from {start:g} to {end:g} s, out of order")
            clips[film].append((start, end))
    empty = [film for film in CLIPS if not clips.get(film)]
    if empty:
        raise InputError(f"{path} has no clips of {', '.join(empty)}")
    return {film: tuple(spans) for film, spans in clips.items()}


@dataclass(frozen=True)
class HcpMovies:
    """The movie runs of the HCP at 7 T, read from a folder of people.

    Attributes
    ----------
    folder : Path
        Holds a folder a person.
    movies : Path, optional
        Folder of the films; by default ``movies`` in `folder`.
    saw_first : collection of str, optional
        People who saw the first version of the films, as the HCP lists them ("100610"). Without
        it, the second version is taken for all, which is said.
    mesh : str, optional
        To which the cortex is taken; None keeps it on fsLR32k, with the voxels.
    """

    folder: Path
    movies: Path | None = None
    saw_first: Collection[str] | None = None
    mesh: str | None = "fsaverage5"
    name: str = "hcp-movies"
    licence: str = (
        "HCP Open Access Data Use Terms: to be accepted at db.humanconnectome.org; "
        "not to be passed on"
    )
    citation: str = (
        "Van Essen et al. 2013, NeuroImage 80:62-79, "
        "doi:10.1016/j.neuroimage.2013.05.041; WU-Minn HCP, S1200 release, 7 T movies"
    )
    tested_on: str = "a synthetic copy of its layout"

    def __post_init__(self) -> None:
        if isinstance(self.saw_first, str):  # whose letters are a collection too
            raise InputError(f"saw_first is {self.saw_first!r}; a list of people fits")

    def runs(self) -> Iterator[Run | Problem]:
        """Up to four runs a person."""
        results = sorted(Path(self.folder).glob("*/MNINonLinear/Results"))
        if not results:
            yield Problem(str(self.folder), "holds no PERSON/MNINonLinear/Results")
            return
        try:
            timing = self._movies / TIMING
            clips = read_clips(timing) if timing.is_file() else CLIPS
        except InputError as error:
            yield Problem(TIMING, f"{error}; nobody's run can be used")
            return
        if self.saw_first is None:
            yield Problem(
                str(self._movies),
                "who saw the first version of the films (saw_first) is not told; the second is "
                "taken for all",
                fatal=False,
            )
        shown: dict[Path, tuple[Shown, ...]] = {}
        for folder in results:
            person = folder.parent.parent.name
            for scan, film in RUNS.items():
                if not (folder / scan).is_dir():
                    continue
                movie = self._movie(person, film)
                shown.setdefault(movie, _shown(movie, film, clips[film]))
                yield from self._run(person, folder / scan, shown[movie])

    @property
    def _movies(self) -> Path:
        return Path(self.folder) / "movies" if self.movies is None else Path(self.movies)

    def _movie(self, person: str, film: str) -> Path:
        first = self.saw_first is not None and person in self.saw_first
        return self._movies / FOLDERS[1 if first else 2] / f"{film}{'' if first else '_v2'}.mp4"

    def _run(self, person: str, folder: Path, shown: tuple[Shown, ...]) -> Iterator[Run | Problem]:
        scan = folder.name
        path = folder / f"{scan}_Atlas_MSMAll_hp2000_clean.dtseries.nii"
        run = Run(
            study=self.name,
            subject=person,
            task=scan.removeprefix("tfMRI_").split("_")[0],
            bold=CiftiBold(path, self.mesh),
            repetition_time=REPETITION_TIME,
            shown=shown,
        )
        finer = folder / f"{scan}_Atlas_1.6mm_MSMAll_hp2000_clean.dtseries.nii"
        if finer.is_file() and not path.is_file():
            yield Problem(
                run.name,
                f"only {finer.name} is there, on 59k vertices, a mesh that is not known here; "
                f"{path.name} (32k) fits",
            )
            return
        yield from usable(run, slack=REPETITION_TIME)


def _shown(movie: Path, film: str, clips: tuple[Span, ...]) -> tuple[Shown, ...]:
    """The clips of a film, the last of which all films share."""
    source = StimulusFile(movie)
    part = film.split("_")[1]
    groups = [f"hcp-{part}.{number}" for number in range(1, len(clips))] + [REPEATED]
    return tuple(
        Shown(source, start, end - start, group, start)
        for (start, end), group in zip(clips, groups, strict=True)
    )
