"""Known atlases: what their files are called, where those are looked for, how to get them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from tribrain.brain.atlas_files import (
    CIFTI_FILES,
    SURFACE_FILES,
    VOLUME_FILES,
    has_ending,
    hemisphere_of,
    is_label_file,
    partner,
    read_names,
    split_name,
)
from tribrain.brain.meshes import folders
from tribrain.brain.spaces import HEMISPHERES
from tribrain.errors import InputError

Files = tuple[Path, ...]
"""Left and right file of an atlas, or the one file that holds both."""

# The numbers of the maximum probability map, as its ROIfiles_Labeling.txt has them; MST and hMT
# are TO2 and TO1 elsewhere.
_WANG = (
    "V1v V1d V2v V2d V3v V3d hV4 VO1 VO2 PHC1 PHC2 MST hMT LO2 LO1 V3b V3a "
    "IPS0 IPS1 IPS2 IPS3 IPS4 IPS5 SPL1 FEF"
)
_FREESURFER = "it is part of FreeSurfer: set SUBJECTS_DIR to its folder of subjects"


@dataclass(frozen=True)
class KnownAtlas:
    """An atlas that has a name here.

    Attributes
    ----------
    family : str
        How the table of groups calls it (all of Schaefer's resolutions are one family).
    files : tuple of str
        Names that its files go by; {h} is lh or rh, {H} L or R, * anything.
    source : str
        Paper.
    get : str
        Where it comes from, in words.
    names : mapping of int to str, optional
        What the numbers mean, for files that hold numbers alone.
    table : str
        Or the file that says so, which lies beside them or one folder up.
    on_surface, in_volume : bool
        Which kinds of space it serves.
    aliases : tuple of str
    """

    family: str
    files: tuple[str, ...]
    source: str
    get: str
    names: Mapping[int, str] | None = None
    table: str = ""
    on_surface: bool = True
    in_volume: bool = False
    aliases: tuple[str, ...] = field(default=())


KNOWN: dict[str, KnownAtlas] = {
    "textbook": KnownAtlas("textbook", (), "textbook.tsv, with a source for each row", "built in"),
    "glasser": KnownAtlas(
        "glasser",
        (
            "{h}.HCP-MMP1.annot",
            "{h}.HCPMMP1.annot",
            "fsa5_{h}_glasser_360.annot",
            "*hemi-{H}_*atlas-Glasser*.label.gii",
            "*CorticalAreas_dil_Final_Final_Areas_Group*.32k_fs_LR.dlabel.nii",
            "*atlas-Glasser*.dlabel.nii",
        ),
        "Glasser et al. 2016, Nature 536:171-178, doi:10.1038/nature18933",
        "the annotation HCP-MMP1 projected on fsaverage (figshare), or the label file of the paper "
        "(BALSA database) for fsLR32k",
        aliases=("hcp-mmp1", "glasser360"),
    ),
    **{
        f"schaefer{n}" + ("-17" if networks == 17 else ""): KnownAtlas(
            "schaefer" + ("-17" if networks == 17 else ""),
            (
                f"{{h}}.Schaefer2018_{n}Parcels_{networks}Networks_order.annot",
                *((f"fsa5_{{h}}_schaefer_{n}.annot",) if networks == 7 else ()),
                f"Schaefer2018_{n}Parcels_{networks}Networks_order.dlabel.nii",
            ),
            "Schaefer et al. 2018, Cereb Cortex 28:3095-3114, doi:10.1093/cercor/bhx179",
            "the folder Schaefer2018_LocalGlobal of Thomas Yeo's CBIG repository, for FreeSurfer's "
            "fsaverage5 or for fsLR32k",
            in_volume=True,
            aliases=(f"schaefer{n}-7",) if networks == 7 else (),
        )
        for networks in (7, 17)
        for n in range(100, 1001, 100)
    },
    "desikan-killiany": KnownAtlas(
        "desikan-killiany",
        (
            "{h}.aparc.annot",
            "fsa5_{h}_aparc.annot",
            "*hemi-{H}_*atlas-Desikan2006*.label.gii",
            "*.aparc.32k_fs_LR.dlabel.nii",
        ),
        "Desikan et al. 2006, NeuroImage 31:968-980, doi:10.1016/j.neuroimage.2006.01.021",
        _FREESURFER,
        aliases=("aparc", "dk"),
    ),
    "destrieux": KnownAtlas(
        "destrieux",
        (
            "{h}.aparc.a2009s.annot",
            "fsa5_{h}_aparc.a2009s.annot",
            "*hemi-{H}_*atlas-Destrieux2009*.label.gii",
            "*.aparc.a2009s.32k_fs_LR.dlabel.nii",
        ),
        "Destrieux et al. 2010, NeuroImage 53:1-15, doi:10.1016/j.neuroimage.2010.06.010",
        f"{_FREESURFER}; nilearn fetches it for fsaverage5 and coarser",
        aliases=("aparc.a2009s",),
    ),
    "wang2015": KnownAtlas(
        "wang2015",
        (
            "{h}.wang15_mplbl*.mgz",
            "{h}.wang2015_atlas.mgz",
            "*hemi-{H}_*wang2015*_seg.label.gii",
        ),
        "Wang et al. 2015, Cereb Cortex 25:3911-3931, doi:10.1093/cercor/bhu277",
        "the page of the Kastner lab (probabilistic maps of visual topography), or the data of the "
        "package neuropythy, for fsaverage",
        names=dict(enumerate(_WANG.split(), start=1)),
    ),
    "harvard-oxford": KnownAtlas(
        "harvard-oxford",
        (
            "HarvardOxford-sub-maxprob-thr25-2mm.nii.gz",
            "HarvardOxford-sub-maxprob-thr25-1mm.nii.gz",
        ),
        "Harvard-Oxford subcortical structures, Harvard Center for Morphometric Analysis; "
        "Desikan et al. 2006, NeuroImage 31:968-980, doi:10.1016/j.neuroimage.2006.01.021",
        "it is part of FSL (data/atlases), and nilearn fetches it",
        table="HarvardOxford-Subcortical.xml",
        on_surface=False,
        in_volume=True,
    ),
}
"""Every atlas that has a name."""


def resolve(name: str) -> str | None:
    """The name of a known atlas, from its name or an alias in any case; else None."""
    wanted = name.lower()
    for known, atlas in KNOWN.items():
        if wanted == known or wanted in atlas.aliases:
            return known
    return None


def known_names() -> str:
    """All names, in words, with the many of Schaefer in short."""
    others = [name for name in KNOWN if not name.startswith("schaefer")]
    others.insert(2, "schaefer100 to schaefer1000 (schaefer400-17 for 17 networks)")
    return ", ".join(others)


def names_of(known: KnownAtlas, file: Path) -> Mapping[int, str] | None:
    """What the numbers in a file of an atlas mean, where that is not told beside it."""
    for folder in (file.parent, file.parent.parent):
        if known.table and (folder / known.table).is_file():
            return read_names(folder / known.table)
    return known.names


@cache
def _patterns(name: str) -> tuple[tuple[str, ...], ...]:
    """For each kind of file of an atlas, its names for left and right (or the one name)."""
    kinds = []
    for pattern in KNOWN[name].files:
        sides = [pattern.format(h=f"{side[0]}h", H=side[0].upper()) for side in HEMISPHERES]
        kinds.append(tuple(dict.fromkeys(sides)))
    return tuple(kinds)


def name_of_files(files: Files) -> str | None:
    """Which known atlas files are, by what they are called; None if they have another name."""
    for name in KNOWN:
        for kind in _patterns(name):
            if len(kind) == len(files) and all(
                fnmatchcase(file.name, pattern) for file, pattern in zip(files, kind, strict=True)
            ):
                return name
    return None


def places(meshes: list[str]) -> list[Path]:
    """Folders where known atlases are looked for, in order.

    Those of TRIBRAIN_ATLASES, the user's data folder, and the folders of labels that FreeSurfer
    has for the meshes.
    """
    from platformdirs import user_data_dir

    named = os.environ.get("TRIBRAIN_ATLASES", "").split(os.pathsep)
    own = [Path(folder).expanduser() for folder in named if folder]
    own.append(Path(user_data_dir("tribrain")) / "atlases")
    subjects = ["fsaverage" if mesh == "fsaverage7" else mesh for mesh in meshes]
    parts = ("label", "surf")
    return own + [f / subject / part for f in folders() for subject in subjects for part in parts]


def find_known(name: str, meshes: list[str]) -> Iterator[Files]:
    """Files of a known atlas in the places where it is looked for, the nearest first."""
    for folder in places(meshes):
        if not folder.is_dir():
            continue
        for first, *second in _patterns(name):
            for file in sorted(folder.glob(first)):
                if not second:
                    yield (file,)
                else:
                    yield (file, partner(file))


def find_path(path: str | Path) -> Files:
    """Files of an atlas by a path: of a file, a folder with one atlas, or FOLDER/NAME.

    Raises
    ------
    InputError
        If nothing is there, or more than one atlas.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return _files(path)
    if path.is_dir():
        return _only(path, atlases_in(path), f"write {path}/NAME, such as")
    if not path.parent.is_dir():
        raise InputError(f"the atlas {path} does not exist; names: {known_names()}")
    held = atlases_in(path.parent)
    # "schaefer_100" is one atlas, although the name of schaefer_1000 has it as well.
    whole = re.compile(rf"(?<![A-Za-z0-9]){re.escape(path.name)}(?![A-Za-z0-9])")
    chosen = {name: files for name, files in held.items() if whole.search(name)}
    chosen = chosen or {name: files for name, files in held.items() if path.name in name}
    if not chosen:
        told = ", ".join(held) or "none"
        raise InputError(
            f"{path.parent} holds no atlas with {path.name!r} in its name; it has: {told}"
        )
    return _only(path.parent, chosen, f"say more than {path.name!r}:")


def _only(folder: Path, held: dict[str, Files], how: str) -> Files:
    if not held:
        kinds = ", ".join((*SURFACE_FILES, *CIFTI_FILES, *VOLUME_FILES))
        raise InputError(f"{folder} holds no atlas; these are read: {kinds}")
    if len(held) > 1:
        raise InputError(f"{folder} holds several atlases; {how} {', '.join(held)}")
    files = next(iter(held.values()))
    return _files(files[0]) if len(files) == 1 else files


def _files(path: Path) -> Files:
    """A file with its partner, in order left, right; a file of both hemispheres alone."""
    if has_ending(path, VOLUME_FILES) or not has_ending(path, SURFACE_FILES):
        return (path,)
    return _pair(path, partner(path))


def _pair(one: Path, other: Path) -> Files:
    return (one, other) if hemisphere_of(one) == "left" else (other, one)


def atlases_in(folder: Path) -> dict[str, Files]:
    """Atlases of a folder: a name each (what the files are called, less the hemisphere)."""
    held: dict[str, Files] = {}
    for file in sorted(folder.iterdir()):
        if not file.is_file() or not is_label_file(file):
            continue
        name, ending = split_name(file)
        former = held.get(name, ())
        if not former:
            held[name] = (file,)
        elif len(former) == 1 and _is_partner(former[0], file):
            held[name] = _pair(former[0], file)
        else:  # the same name in another format
            name += ending
            held[name] = _pair(held[name][0], file) if name in held else (file,)
    return held


def _is_partner(one: Path, other: Path) -> bool:
    alike = split_name(one) == split_name(other)
    return alike and hemisphere_of(one) != hemisphere_of(other)
