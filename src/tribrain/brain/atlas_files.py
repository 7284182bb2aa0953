"""Label files: which region each vertex or voxel belongs to, as the formats of the field hold it.

FreeSurfer annotations (.annot), GIFTI labels (.label.gii), CIFTI-2 labels (.dlabel.nii), label
maps (.mgz) and label volumes (.nii, .nii.gz) with a table of names. What the labels are called
and whether they fit a response is for `tribrain.brain.atlases`.
"""

from __future__ import annotations

import gzip
import html
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.spaces import HEMISPHERES, TEMPLATES
from tribrain.brain.templates import check_header
from tribrain.errors import InputError, InputWarning
from tribrain.files import first_line, one_line, require_file

SURFACE_FILES = (".annot", ".label.gii", ".gii", ".mgz", ".mgh")
"""Files of one hemisphere."""
CIFTI_FILES = (".dlabel.nii",)
"""Files of both hemispheres."""
VOLUME_FILES = (".nii.gz", ".nii")
NAME_TABLES = (".tsv", ".csv", ".txt", ".xml")
"""Tables of names beside a file that has numbers alone, with the same name before the dot."""
NO_REGION = -1

# Words of a file's name that tell its hemisphere, the surest first.
_WORDS = (("lh", "rh"), ("LH", "RH"), ("left", "right"), ("Left", "Right"), ("L", "R"))
_STRUCTURES = dict(zip(HEMISPHERES, ("CortexLeft", "CortexRight"), strict=True))
_MNI = 4  # NIFTI_XFORM_MNI_152


@dataclass(frozen=True, eq=False)
class Labels:
    """A number at each vertex or voxel and what the numbers are called.

    Attributes
    ----------
    values : ndarray of int, (n,) of a hemisphere or (x, y, z) of a volume
        `NO_REGION` where the file says nothing.
    names : mapping of int to str
    """

    values: np.ndarray
    names: Mapping[int, str]


def has_ending(path: Path, endings: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(endings))


def is_label_file(path: Path) -> bool:
    """Whether a file's name is that of a format which is read."""
    # Surfaces, time series and the like share their last ending with labels.
    other = re.search(r"\.(surf|func|shape|time|coord)\.gii$|\.[dp](?!label)\w+\.nii$", path.name)
    return has_ending(path, (*SURFACE_FILES, *VOLUME_FILES)) and not other


def hemisphere_of(path: Path) -> str | None:
    """The hemisphere of a file, by a word of its name: lh, left or L (rh, right, R)."""
    found = _find_word(path.name)
    return None if found is None else found[0]


def _find_word(name: str) -> tuple[str, re.Match[str], str] | None:
    """Hemisphere that a name tells, where, and the word of the other hemisphere."""
    for left, right in _WORDS:
        found = re.search(rf"(?<![A-Za-z0-9])({left}|{right})(?![A-Za-z0-9])", name)
        if found:
            is_left = found.group() == left
            return HEMISPHERES[not is_left], found, right if is_left else left
    return None


def split_name(path: Path) -> tuple[str, str]:
    """What a label file is called without the word for its hemisphere, and its ending."""
    endings = sorted((*SURFACE_FILES, *CIFTI_FILES, *VOLUME_FILES), key=len, reverse=True)
    ending = next((end for end in endings if has_ending(path, (end,))), "")
    stem = path.name[: len(path.name) - len(ending)]
    found = _find_word(stem) if ending in SURFACE_FILES else None
    if found is not None:
        before, after = stem[: found[1].start()], stem[found[1].end() :]
        before = before.removesuffix("hemi-")
        stem = before + after[1:] if after else before[:-1]
    return stem, ending


def partner(path: Path) -> Path:
    """The file of the other hemisphere, by its name.

    Raises
    ------
    InputError
        If the name does not tell the hemisphere, or the other file is not there.
    """
    told = _find_word(path.name)
    if told is None:
        raise InputError(
            f"{path.name} does not tell its hemisphere; lh, L or left (rh, R, right) in the name "
            "do, or give both files"
        )
    side, found, word = told
    other = path.with_name(path.name[: found.start()] + word + path.name[found.end() :])
    if not other.is_file():
        raise InputError(f"{path.name} is of the {side} hemisphere and {other.name} is not there")
    return other


def read_hemisphere(
    path: Path,
    hemisphere: str,
    names: Mapping[int, str] | None = None,
    label_map: str | None = None,
) -> Labels:
    """Labels of one hemisphere.

    Parameters
    ----------
    path : Path
        A file with an ending of `SURFACE_FILES`.
    hemisphere : {"left", "right"}
        Which it is to be; a GIFTI file that says otherwise is refused.
    names : mapping of int to str, optional
        Of an .mgz file, which holds numbers alone; by default those of the table beside it.
    label_map : str, optional
        Which map of a GIFTI file that holds several.

    Raises
    ------
    InputError
        A damaged file, one that holds no labels, one of the other hemisphere.
    """
    require_file(path, "the atlas")
    if has_ending(path, (".annot",)):
        return _read_annot(path)
    if has_ending(path, (".gii",)):
        return _read_gifti(path, hemisphere, label_map)
    return _read_mgh(path, names)


def _loaded(path: Path, what: str) -> Any:
    import nibabel as nib

    try:
        if has_ending(path, (".mgh", ".mgz")):  # of which nibabel leaves the file open
            held = path.read_bytes()
            packed = has_ending(path, (".mgz",))
            image: Any = nib.MGHImage.from_bytes(gzip.decompress(held) if packed else held)
        else:
            image = nib.load(path)
        if hasattr(image, "dataobj"):
            np.asanyarray(image.dataobj)  # a truncated file shows itself here
    except Exception as error:  # whatever a damaged file brings about in its reader
        raise _damaged(path, what, error) from None
    return image


def _damaged(path: Path, what: str, error: Exception) -> InputError:
    return InputError(f"{path.name} cannot be read as {what}: {first_line(error)}")


def _whole_numbers(values: np.ndarray, path: Path) -> np.ndarray:
    whole = np.asarray(values)
    if whole.dtype.kind not in "iu" and not (
        np.isfinite(whole).all() and (whole == np.round(whole)).all()
    ):
        raise InputError(f"{path.name} holds values that are no whole numbers, so no labels")
    return whole.astype(np.int32)


def _read_annot(path: Path) -> Labels:
    from nibabel.freesurfer import read_annot

    try:
        # The colours themselves: nibabel gives a colour without a name that of a neighbour.
        with np.errstate(over="ignore"):  # sizes of a damaged file
            colours, table, texts = read_annot(path, orig_ids=True)
    except Exception as error:
        raise _damaged(path, "an annotation", error) from None
    if len(table) != len(texts):
        raise InputError(f"{path.name}: the table of names has gaps, so names would be mixed up")
    known, first, counts = np.unique(table[:, 4], return_index=True, return_counts=True)
    place = np.searchsorted(known, colours).clip(max=len(known) - 1)
    named = known[place] == colours
    if (counts[place[named]] > 1).any():
        raise InputError(f"{path.name}: two regions share a colour, which tells regions apart")
    values = np.where(named, first[place], len(texts))  # a number without a name
    values[colours == 0] = NO_REGION  # FreeSurfer leaves 0 where nothing was labelled
    return Labels(values, {k: text.decode("utf-8", "replace") for k, text in enumerate(texts)})


def _read_gifti(path: Path, hemisphere: str, label_map: str | None) -> Labels:
    image = _loaded(path, "GIFTI labels")
    intent = 1002  # NIFTI_INTENT_LABEL
    maps = [array for array in getattr(image, "darrays", []) if array.intent == intent]
    if not maps:
        raise InputError(f"{path.name} holds no labels; a .label.gii does")
    titles = [str(array.meta.get("Name") or f"map {k + 1}") for k, array in enumerate(maps)]
    chosen = maps[_choose(titles, label_map, path)]
    for meta in (image.meta, chosen.meta):
        told = meta.get("AnatomicalStructurePrimary")
        if told in _STRUCTURES.values() and told != _STRUCTURES[hemisphere]:
            raise InputError(
                f"{path.name} is of {told}, and the {hemisphere} hemisphere was expected: "
                "give the left file first, and check that names and contents agree"
            )
    values = _whole_numbers(np.squeeze(chosen.data), path)
    if values.ndim != 1:
        raise InputError(f"{path.name} has labels of shape {chosen.data.shape}; one a vertex fits")
    # nibabel gives a label with an empty name no name at all.
    names = {label.key: getattr(label, "label", "") for label in image.labeltable.labels}
    return Labels(values, names)


def _choose(titles: Sequence[str], wanted: str | None, path: Path) -> int:
    """Which of several maps: the one that was named, or the first, which is then said."""
    if wanted is not None:
        if wanted not in titles:
            known = ", ".join(titles)
            raise InputError(f"{path.name} has no map {wanted!r}; its maps: {one_line(known)}")
        return list(titles).index(wanted)
    if len(titles) > 1:
        warnings.warn(
            f"{path.name} holds several maps ({one_line(', '.join(titles))}); the first is read",
            InputWarning,
            stacklevel=2,
        )
    return 0


def _read_mgh(path: Path, names: Mapping[int, str] | None) -> Labels:
    image = _loaded(path, "a label map")
    shape = image.shape
    if sum(side > 1 for side in shape) != 1:
        raise InputError(f"{path.name} has shape {shape}; a label map has one value a vertex")
    values = _whole_numbers(np.asanyarray(image.dataobj).reshape(-1), path)
    return Labels(values, names if names is not None else names_beside(path))


def read_cifti(path: Path, label_map: str | None = None) -> dict[str, Labels]:
    """Labels of both hemispheres, each on the whole mesh; voxels are left out with a note.

    Raises
    ------
    InputError
        A damaged file, one that holds no labels, one that lacks a hemisphere.
    """
    require_file(path, "the atlas")
    image = _loaded(path, "CIFTI labels")
    try:
        table, model = image.header.get_axis(0), image.header.get_axis(1)
        tables, vertex, structures = table.label, model.vertex, model.name
        titles = [str(title) for title in table.name]
    except Exception:
        raise InputError(f"{path.name} holds no CIFTI-2 labels; a .dlabel.nii does") from None
    chosen = _choose(titles, label_map, path)
    data = _whole_numbers(np.asanyarray(image.dataobj)[chosen], path)
    names = {key: entry[0] for key, entry in tables[chosen].items()}
    found = {}
    for hemisphere in HEMISPHERES:
        structure = f"CIFTI_STRUCTURE_CORTEX_{hemisphere.upper()}"
        if structure not in model.nvertices:
            raise InputError(f"{path.name} holds no {hemisphere} hemisphere; both are expected")
        values = np.full(model.nvertices[structure], NO_REGION, np.int32)
        here = structures == structure
        values[vertex[here]] = data[here]
        found[hemisphere] = Labels(values, names)
    if voxels := int((model.volume_mask & (data > 0)).sum()):
        warnings.warn(
            f"{path.name}: {voxels} labelled voxels are left out; its surface is read",
            InputWarning,
            stacklevel=2,
        )
    return found


def read_volume(
    path: Path, names: Mapping[int, str] | None = None
) -> tuple[Labels, np.ndarray, str | None]:
    """Labels of a volume, its matrix to mm, and its template if the file tells it.

    Parameters
    ----------
    path : Path
        NIfTI.
    names : mapping of int to str, optional
        By default those of the table beside the file.

    Returns
    -------
    labels : Labels
    affine : ndarray (4, 4)
    template : str or None
        By ``tpl-`` or ``space-`` in the name or by the header's code for MNI152; else None.
    """
    require_file(path, "the atlas")
    image = _loaded(path, "a label volume")
    if not hasattr(image, "affine") or len(image.shape) != 3:
        raise InputError(
            f"{path.name} has shape {image.shape}; a volume of labels has three dimensions"
        )
    check_header(image, path.name)
    values = _whole_numbers(np.asanyarray(image.dataobj), path)
    named = re.search(r"(?:tpl|space)-([A-Za-z0-9]+)", path.name)
    template = named.group(1) if named and named.group(1) in TEMPLATES else None
    codes = (int(image.header["sform_code"]), int(image.header["qform_code"]))
    if template is None and _MNI in codes:
        template = "MNI152NLin6Asym"
    found = names if names is not None else names_beside(path)
    return Labels(values, found), np.array(image.affine, float), template


def names_beside(path: Path) -> Mapping[int, str]:
    """The table of names that lies beside a file of numbers, with the same name before the dot.

    One table may serve both hemispheres: its name then lacks the word for one.
    """
    both, ending = split_name(path)
    stem = path.name.removesuffix(path.name[-len(ending) :])
    for candidate in (path.with_name(s + end) for s in (stem, both) for end in NAME_TABLES):
        if candidate.is_file():
            return read_names(candidate)
    raise InputError(
        f"{path.name} holds numbers without names, and {stem}.tsv (columns index and name; or "
        ".csv, .txt, .xml) is not beside it"
    )


def read_names(path: Path) -> dict[int, str]:
    """What label numbers are called.

    Parameters
    ----------
    path : Path
        .tsv or .csv with columns index and name (a BIDS ``dseg.tsv``), .txt with a number and a
        name a line (a FreeSurfer colour table), or .xml of an FSL atlas, whose maps of maximal
        probability count from 1 where its table counts from 0.

    Raises
    ------
    InputError
        If the table cannot be read so.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, "a table of names", error) from None
    reader = {".xml": _names_of_fsl, ".txt": _names_of_lines}.get(path.suffix, _names_of_columns)
    names = reader(text)
    if not names:
        raise InputError(f"{path.name} is no table of names; columns index and name fit")
    return names


def _names_of_fsl(text: str) -> dict[int, str]:
    first = 0 if re.search(r"<type>\s*Label\s*</type>", text) else 1
    found = re.findall(r'<label\s[^>]*?index="(\d+)"[^>]*>([^<]*)</label>', text)
    return {int(index) + first: html.unescape(name).strip() for index, name in found}


def _names_of_lines(text: str) -> dict[int, str]:
    names = {}
    for line in text.splitlines():
        found = re.match(r"\s*(\d+)[\s,:]+(.+?)(?:(?:\s+\d+){3,4})?\s*$", line)
        if found:
            names[int(found.group(1))] = found.group(2)
    return names


def _names_of_columns(text: str) -> dict[int, str]:
    import csv

    separator = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = csv.DictReader(text.splitlines(), delimiter=separator)
    names = {}
    for row in rows:
        try:
            names[int(row["index"])] = row["name"].strip()
        except (KeyError, TypeError, ValueError, AttributeError):
            return {}
    return names
