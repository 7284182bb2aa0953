"""The BOLD of a run among fMRIPrep's derivatives: in which space, in which files, on which clock.

Names: the page "Outputs of fMRIPrep" of its documentation (https://fmriprep.org).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tribrain.brain.cifti_files import series_header
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import TEMPLATES
from tribrain.brain.surface_files import gifti_header
from tribrain.brain.volume_files import volume_header
from tribrain.errors import InputError
from tribrain.studies.bids_layout import BidsFile, Key, Tree, seconds
from tribrain.studies.runs import BoldSource
from tribrain.studies.sources import CiftiBold, SurfaceBold, VolumeBold

SURFACES = ("fsaverage5", "fsaverage6", "fsaverage", "fsaverage4", "fsaverage3")
"""Spaces of surfaces, the one that is taken first."""
VOLUMES = tuple(dict.fromkeys(("MNI152NLin2009cAsym", *TEMPLATES)))
"""Spaces of volumes, the one that is taken first."""
_HEMISPHERES = {"L": "left", "R": "right"}
_CIFTI = ".dtseries.nii"
_SAME = 1e-4  # of each other: headers hold single precision


@dataclass(frozen=True)
class TimedBold:
    """BOLD whose files do not tell its clock, or tell it wrongly.

    Attributes
    ----------
    source : BoldSource
    repetition_time : float
        Seconds.
    start : float
        Second of the run that the first volume stands for.
    """

    source: BoldSource
    repetition_time: float
    start: float = 0.0

    @property
    def files(self) -> tuple[Path, ...]:
        return self.source.files

    def header(self) -> tuple[int, float | None]:
        """As of the source."""
        return self.source.header()

    def load(self) -> BoldSeries:
        """The source's values on this clock."""
        found = self.source.load()
        return replace(found, repetition_time=self.repetition_time, start=self.start)


def is_bold(file: BidsFile) -> bool:
    """Whether a file holds the whole BOLD of a recording: no single echo, no phase, no sidecar."""
    return (
        file.suffix == "bold"
        and file.extension.endswith((".nii", ".nii.gz", ".gii"))
        and "echo" not in file.entities
        and file.entities.get("part", "mag") == "mag"
    )


def best_files(files: Sequence[BidsFile], space: str | None = None) -> list[BidsFile]:
    """Files of the space that comes first (`tribrain.studies.bids`), the left hemisphere first.

    Parameters
    ----------
    files : sequence of BidsFile
        All derivatives of a run.
    space : str, optional
        To take that one instead: as in the files' names, or `space_label`.

    Raises
    ------
    InputError
        No such space, or none that fits; one hemisphere; two files of one thing.
    """
    ranks: dict[str, tuple[int, int]] = {}
    spaces: dict[str, list[BidsFile]] = defaultdict(list)
    there = set()
    for file in filter(is_bold, files):
        label, rank = space_label(file), _rank(file)
        there.add(label)
        if rank is not None and space in (None, label, label.split(":")[0]):
            spaces[label].append(file)
            ranks[label] = rank
    if not spaces:
        wanted = f"space {space}" if space else "a space that fits"
        fitting = ", ".join((*SURFACES, "CIFTI", *VOLUMES))
        told = ", ".join(sorted(there)) or "no BOLD"
        raise InputError(f"has no BOLD in {wanted}; it has: {told}; these fit: {fitting}")
    first = min(ranks.values())
    labels = sorted(label for label, rank in ranks.items() if rank == first)
    if len(labels) > 1:
        raise InputError(f"is there as {' and as '.join(labels)}; say which by space=")
    return _whole(spaces[labels[0]])


def space_label(file: BidsFile) -> str:
    """Space of a file, with its resolution or density: ``MNI152NLin2009cAsym:res-2``."""
    parts = [f"{name}-{file.entities[name]}" for name in ("res", "den") if name in file.entities]
    return ":".join([file.entities.get("space", "the scanner's own"), *parts])


def _rank(file: BidsFile) -> tuple[int, int] | None:
    space, description = file.entities.get("space", ""), file.entities.get("desc", "preproc")
    if description != "preproc":
        return None
    hemisphere = file.entities.get("hemi")
    if file.extension == ".func.gii" and space in SURFACES and hemisphere in _HEMISPHERES:
        return 0, SURFACES.index(space)
    if file.extension == _CIFTI:
        return 1, 0
    if file.extension in (".nii", ".nii.gz") and space in VOLUMES and "desc" in file.entities:
        return 2, VOLUMES.index(space)
    return None


def _whole(files: list[BidsFile]) -> list[BidsFile]:
    """One file, or one of each hemisphere, left first."""
    sides: dict[str, BidsFile] = {}
    for file in files:
        side = file.entities.get("hemi", "")
        if side in sides:
            names = f"{sides[side].path.name} and {file.path.name}"
            raise InputError(f"{names} are two files of one run; take one of them away")
        sides[side] = file
    if files[0].extension != ".func.gii":
        return files
    missing = [name for letter, name in _HEMISPHERES.items() if letter not in sides]
    if missing:
        names = ", ".join(file.path.name for file in files)
        raise InputError(f"has no {' and no '.join(missing)} hemisphere: there is {names}")
    return [sides[letter] for letter in _HEMISPHERES]


def bold_source(
    files: list[BidsFile],
    mesh: str,
    clock: tuple[float, float],
    projection: Mapping[str, Any],
    *,
    overruled: bool,
) -> BoldSource:
    """What reads files, taken to a mesh, on a clock of repetition time and start.

    Parameters
    ----------
    overruled : bool
        Whether the repetition time is not that of the files.
    """
    path = files[0].path
    repetition_time, start = clock
    source: BoldSource
    if files[0].extension == ".func.gii":
        source = SurfaceBold(path, files[1].path, mesh, repetition_time)
    elif files[0].extension == _CIFTI:
        source = CiftiBold(path, mesh)
    else:
        source = VolumeBold(path, files[0].entities["space"], repetition_time, mesh, projection)
    # Only surfaces and volumes can be told another repetition time, and none of them a start.
    untold = overruled and isinstance(source, CiftiBold)
    return TimedBold(source, repetition_time, start) if start or untold else source


def clock_of(
    key: Key, files: list[BidsFile], raw: Tree, prepared: Tree, given: float | None
) -> tuple[float, float]:
    """Repetition time, and the second of the run that the first volume stands for.

    fMRIPrep moves the slices of a volume to the time of one of them, by default the middle one,
    and says so in ``StartTime`` of the derivatives' sidecar; the onsets of events count from the
    first slice on.

    Parameters
    ----------
    given : float, optional
        Repetition time that overrules all others: the headers are then not looked at.

    Raises
    ------
    InputError
        Where sidecars (of the raw data by inheritance, of the derivatives) and headers state
        different repetition times, or none at all; hemispheres of different length.
    """
    stated: dict[str, float] = {}
    for file in raw.inherited(key, "bold", (".json",)):
        value = seconds(raw.fields(file.path), "RepetitionTime", file.path)
        if value is not None:
            stated = {file.path.name: value}  # the nearest file is right
    start = 0.0
    for sidecar in _sidecars(files):
        fields = prepared.fields(sidecar)
        value = seconds(fields, "RepetitionTime", sidecar)
        if value is not None:
            stated[f"the derivatives' {sidecar.name}"] = value
        if fields.get("SliceTimingCorrected", True):
            start = seconds(fields, "StartTime", sidecar) or 0.0
    if given is not None:
        return given, start
    stated |= _by_headers(files)
    if not stated:
        raise InputError(
            "states no repetition time, in no sidecar or header; give repetition_time="
        )
    (first, value), *others = stated.items()
    for where, other in others:
        if abs(other - value) > _SAME * value:
            raise InputError(
                f"has a repetition time of {value:g} s by {first} and of {other:g} s by {where}; "
                "mend the one that is wrong, or give repetition_time="
            )
    return value, start


def _sidecars(files: list[BidsFile]) -> list[Path]:
    """The JSON files that lie beside files."""
    found = []
    for file in files:
        stem = file.path.name.removesuffix(file.extension)
        # fMRIPrep before 20.2 named that of a CIFTI file NAME.dtseries.json.
        for extension in (".json", file.extension.removesuffix(".nii") + ".json"):
            sidecar = file.path.with_name(stem + extension)
            if sidecar.is_file():
                found.append(sidecar)
                break
    return found


def _by_headers(files: list[BidsFile]) -> dict[str, float]:
    """Repetition times by the headers of files, which have to be of one length."""
    read = {".func.gii": gifti_header, _CIFTI: series_header}.get(files[0].extension, volume_header)
    headers = {f"the header of {file.path.name}": read(file.path) for file in files}
    lengths = {volumes for volumes, _ in headers.values()}
    if len(lengths) > 1:
        told = " and ".join(map(str, sorted(lengths)))
        raise InputError(f"has hemispheres of {told} volumes: one of them is cut")
    return {where: value for where, (_, value) in headers.items() if value is not None}


def confounds_of(files: Sequence[BidsFile]) -> tuple[Path | None, list[str]]:
    """The table of confounds of a run, and what is wrong with it.

    Its name was ``desc-confounds_regressors.tsv`` before fMRIPrep 20.2.
    """
    tables = [
        file.path
        for name in ("timeseries", "regressors")
        for file in files
        if (file.suffix, file.extension) == (name, ".tsv")
        and file.entities.get("desc") == "confounds"
    ]
    if not tables:
        return None, ["has no table of confounds, desc-confounds_timeseries.tsv"]
    if len(tables) > 1:
        names = " and ".join(path.name for path in tables)
        return tables[0], [f"has two tables of confounds, {names}; the first is used"]
    return tables[0], []
