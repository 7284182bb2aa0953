"""Values on a surface, one file a hemisphere: GIFTI and FreeSurfer's .mgh, written and read.

GIFTI 1.0 (https://www.nitrc.org/projects/gifti) states its hemisphere in its metadata; of an .mgh
file (https://surfer.nmr.mgh.harvard.edu, MghFormat) only the name tells it.
"""

from __future__ import annotations

import colorsys
import gzip
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import HEMISPHERES, MESHES, mesh_of_vertices, mesh_space
from tribrain.errors import InputError, InputWarning
from tribrain.files import one_line, require_file

STRUCTURES = dict(zip(HEMISPHERES, ("CortexLeft", "CortexRight"), strict=True))
"""Names of the hemispheres in GIFTI."""

_STRUCTURE = "AnatomicalStructurePrimary"
# Words in a name that tell a hemisphere: BIDS' entity alone where there is one, or else those of
# lh.NAME, NAME.L.func.gii, NAME_left.gii. After another dash stands a label (task-left).
_ENTITY = re.compile(r"(?<=hemi-)(?:lh?|rh?|left|right)(?=[_.])", re.IGNORECASE)
_WORD = re.compile(
    r"(?<![A-Za-z0-9-])(?:lh|rh|left|right)(?![A-Za-z0-9-])|(?<=\.)[lr](?=\.)", re.IGNORECASE
)
_OTHER = {"l": "r", "r": "l", "lh": "rh", "rh": "lh", "left": "right", "right": "left"}
_EXTENSION = re.compile(r"(?:\.(?:func|time|shape))?\.gii(?:\.gz)?$|\.mg[hz]$", re.IGNORECASE)
_ASK_BOTH = "give both files as (left, right)"
_ASK_TIME = "give repetition_time in s"

_Volumes = tuple[Sequence[np.ndarray] | np.ndarray, set[float]]


def write_gifti(
    path: str | Path,
    values: np.ndarray,
    hemisphere: str,
    repetition_time: float | None,
    *,
    names: Sequence[str] | None = None,
    intent: str = "NIFTI_INTENT_NONE",
) -> None:
    """Write the values of a hemisphere as GIFTI, one data array a volume or map.

    The bytes are those that nibabel writes of a whole image, written array by array: the values
    are never in memory a second time.

    Parameters
    ----------
    path : path
        Such as ``NAME_hemi-L_..._bold.func.gii``.
    values : ndarray (time, n)
        Written as float32.
    hemisphere : {"left", "right"}
    repetition_time : float or None
        Seconds; None for maps, which are no time series.
    names : sequence of str, optional
        One a map.
    intent : str
        What maps hold, by NIfTI's names, such as ``NIFTI_INTENT_ZSCORE``.

    Raises
    ------
    InputError
        If shape or names do not fit, or the file's name tells the other hemisphere.
    """
    from nibabel import gifti

    values = _table(values)
    if names is not None and len(names) != len(values):
        raise InputError(f"{len(names)} names do not fit {len(values)} maps")
    step = {}
    if repetition_time is not None:
        intent = "NIFTI_INTENT_TIME_SERIES"
        step = {"TimeStep": str(round(1000 * repetition_time, 6))}  # ms, as FreeSurfer
    start = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE GIFTI SYSTEM "http://www.nitrc.org/frs/download.php/115/gifti.dtd">\n'
        f'<GIFTI Version="1.0" NumberOfDataArrays="{len(values)}">'
    )
    meta = _gifti_meta(Path(path), hemisphere)
    with Path(path).open("wb") as file:
        file.write(start.encode() + meta.to_xml() + gifti.GiftiLabelTable().to_xml())
        for number, row in enumerate(values):
            name = {"Name": names[number]} if names is not None else {}
            array = gifti.GiftiDataArray(
                np.ascontiguousarray(row, np.float32),
                intent=intent,
                datatype="NIFTI_TYPE_FLOAT32",
                meta=gifti.GiftiMetaData(step | name),
            )
            file.write(array.to_xml())
        file.write(b"</GIFTI>")


def write_gifti_labels(
    path: str | Path,
    labels: np.ndarray,
    names: Mapping[int, str],
    hemisphere: str,
    colours: Mapping[int, Sequence[float]] | None = None,
) -> None:
    """Write a label for each vertex of a hemisphere as GIFTI (.label.gii).

    Parameters
    ----------
    path : path
    labels : ndarray (n,), int
    names : mapping of int to str
        Of every label in `labels`; there may be more.
    hemisphere : {"left", "right"}
    colours : mapping of int to (red, green, blue) or (red, green, blue, opacity), optional
        From 0 to 1. A label without a colour gets one of its own, and label 0, which stands for
        no region, is transparent.

    Raises
    ------
    InputError
        If a label has no name, or the file's name tells the other hemisphere.
    """
    import nibabel as nib
    from nibabel import gifti

    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels have shape {labels.shape}, {labels.dtype}; (n,) integers fit")
    for label in np.unique(labels).tolist():
        if label not in names:
            raise InputError(f"label {label} of {Path(path).name} has no name")
    table = gifti.GiftiLabelTable()
    for rank, (key, name) in enumerate(sorted(names.items())):
        default = _colour(rank) if key else (0.0, 0.0, 0.0, 0.0)
        red, green, blue, opacity = (*(colours or {}).get(key, default), 1.0)[:4]
        entry: Any = gifti.GiftiLabel(
            int(key), float(red), float(green), float(blue), float(opacity)
        )
        entry.label = name
        table.labels.append(entry)
    array = gifti.GiftiDataArray(labels.astype(np.int32), intent="NIFTI_INTENT_LABEL")
    meta = _gifti_meta(Path(path), hemisphere)
    nib.save(gifti.GiftiImage(meta=meta, labeltable=table, darrays=[array]), path)


def read_gifti(
    path: str | Path | Sequence[str | Path], *, repetition_time: float | None = None
) -> BoldSeries:
    """Read a time series of both hemispheres from GIFTI.

    There is one data array a volume, as FreeSurfer, fMRIPrep and `write_gifti` write it, or a
    single one (n, time).

    Parameters
    ----------
    path : path, or (left, right)
        Of either hemisphere; the other's name has ``hemi-R`` for ``hemi-L``, ``rh`` for ``lh``,
        ``.R.`` for ``.L.`` or ``_right`` for ``_left``.
    repetition_time : float, optional
        Seconds. Without it, ``RepetitionTime`` in the JSON files of the same names counts; where
        there is none, ``TimeStep`` in the metadata. FreeSurfer writes that in ms, others in s:
        its size tells which, since a volume takes 0.1 to 30 s.

    Returns
    -------
    BoldSeries

    Raises
    ------
    InputError
        If a hemisphere is missing, not told, or swapped by what its metadata state; if the files
        do not fit each other, a known mesh, or their JSON; if no repetition time is stated.
    """
    return _read(path, repetition_time, _load_gifti)


def gifti_header(path: str | Path) -> tuple[int, float | None]:
    """Number of volumes in a GIFTI file of a hemisphere, and the repetition time (s) it states.

    Of the JSON file beside it, or else of the file's TimeStep; None where neither is there. No
    values are read.

    Raises
    ------
    InputError
        A file that is no GIFTI, a time step that is neither in s nor in ms, statements that
        differ.
    """
    path = require_file(path, "the file")
    with path.open("rb") as file:
        head = file.read(200_000).decode("utf-8", "replace")
    arrays = re.search(r'NumberOfDataArrays="(\d+)"', head)
    if "<GIFTI" not in head or arrays is None:
        raise InputError(f"{path} cannot be read as GIFTI: its head has no number of data arrays")
    n = int(arrays[1])
    whole = re.search(r"<DataArray[^>]*>", head)
    second = re.search(r'Dim1="(\d+)"', whole[0]) if whole is not None and n == 1 else None
    found = re.search(r"TimeStep.*?<Value>\s*(?:<!\[CDATA\[)?\s*([\d.eE+-]+)", head, re.DOTALL)
    steps = [(path, float(found[1]))] if found else []
    known = any(step for _, step in steps) or _repetition_time(_sidecar(path))
    seconds = _seconds(None, [path], steps) if known else None
    return int(second[1]) if second else n, seconds


def write_mgh(path: str | Path, values: np.ndarray, repetition_time: float | None) -> None:
    """Write the values of a hemisphere as FreeSurfer's .mgh or .mgz.

    Parameters
    ----------
    path : path
        Its name must tell the hemisphere (``lh.NAME.mgh``): the file itself does not.
    values : ndarray (time, n)
        Written as float32, in the shape (n, 1, 1, time).
    repetition_time : float or None
        Seconds (the header has ms); None for maps.

    Raises
    ------
    InputError
        If the values are no table, or the name tells no hemisphere.
    """
    import nibabel as nib

    path = Path(path)
    if side_of_name(path) is None:
        raise InputError(f"the name {path.name} does not tell a hemisphere; lh.NAME.mgh does")
    data = _table(values).astype(np.float32, copy=False).T[:, None, None, :]
    # nibabel drops a fourth dimension of one.
    image = nib.MGHImage(data if data.shape[3] > 1 else data[..., 0], np.eye(4))
    image.header["tr"] = 1000 * (repetition_time or 0)
    nib.save(image, path)


def read_mgh(
    path: str | Path | Sequence[str | Path], *, repetition_time: float | None = None
) -> BoldSeries:
    """Read a time series of both hemispheres from FreeSurfer's .mgh or .mgz.

    As `read_gifti`; the names alone tell the hemispheres, and the header has the time step.
    """
    return _read(path, repetition_time, _load_mgh)


def side_of_name(path: str | Path) -> str | None:
    """The hemisphere that the name of a file tells; None if it tells none, or both."""
    sides = {"left" if mark[0][0] in "lL" else "right" for mark in _marks(Path(path).name)}
    return sides.pop() if len(sides) == 1 else None


def _marks(name: str) -> list[re.Match[str]]:
    return list(_ENTITY.finditer(name)) or list(_WORD.finditer(name))


def _other_name(name: str) -> str:
    """Name of the file of the other hemisphere; capitals stay capitals."""
    for mark in reversed(_marks(name)):
        old, new = mark[0], _OTHER[mark[0].lower()]
        new = new.upper() if old.isupper() else new.title() if old[0].isupper() else new
        name = name[: mark.start()] + new + name[mark.end() :]
    return name


def _table(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2:
        raise InputError(f"the values have shape {values.shape}; (time, vertices) fits")
    return values


def _gifti_meta(path: Path, hemisphere: str) -> Any:
    """Metadata of a GIFTI file of a hemisphere, whose name must not tell the other one."""
    from nibabel import gifti

    if hemisphere not in STRUCTURES:
        raise InputError(f"hemisphere {hemisphere!r} is unknown; known: {', '.join(STRUCTURES)}")
    if side_of_name(path) not in (None, hemisphere):
        raise InputError(
            f"{path.name} is to hold the {hemisphere} hemisphere; its name tells the other"
        )
    return gifti.GiftiMetaData({_STRUCTURE: STRUCTURES[hemisphere]})


def _pair(given: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    """Path of each hemisphere, left first."""
    if isinstance(given, (str, Path)):
        found, other = _with_partner(require_file(given, "the file"))
        pair = {side_of_name(path): path for path in (found, other)}
        return {side: pair[side] for side in HEMISPHERES}
    if len(given) != 2:
        raise InputError(f"files of {len(given)} hemispheres are given; {_ASK_BOTH}")
    both = {}
    for side, path in zip(HEMISPHERES, given, strict=True):
        both[side] = require_file(path, f"the file of the {side} hemisphere")
        if side_of_name(path) not in (None, side):
            raise InputError(f"{path} is given as the {side} hemisphere; its name tells the other")
    return both


def _with_partner(path: Path) -> tuple[Path, Path]:
    """A file whose name tells its hemisphere, and that of the other hemisphere."""
    if side_of_name(path) is None:
        tells = "both hemispheres" if _marks(path.name) else "no hemisphere"
        raise InputError(
            f"the name {path.name} tells {tells}; names with hemi-L, lh., .L. or _left and their "
            f"like do; otherwise {_ASK_BOTH}"
        )
    other = path.with_name(_other_name(path.name))
    if not other.is_file():
        raise InputError(
            f"{path} has no partner: {other.name} was looked for beside it; if the other "
            f"hemisphere has another name, {_ASK_BOTH}"
        )
    return path, other


def _read(
    given: str | Path | Sequence[str | Path],
    repetition_time: float | None,
    load: Callable[[Path, str], _Volumes],
) -> BoldSeries:
    """Both hemispheres as one series; `load` gives the volumes and time steps of a file."""
    pair = _pair(given)
    steps = []
    values = None
    for side, path in pair.items():
        volumes, stated = load(path, side)
        steps += [(path, step) for step in stated]
        space = mesh_space(mesh_of_vertices(len(volumes[0]), str(path)))
        _check_space(path, space.mesh)
        if values is None:
            values = np.empty((len(volumes), space.size), np.float32)
        elif values.shape != (len(volumes), space.size):
            raise InputError(
                f"{pair['left']} has {len(values)} volumes of {values.shape[1] // 2} vertices, "
                f"{path} {len(volumes)} of {space.n_right}; both hemispheres of one run fit"
            )
        for row, volume in zip(values, volumes, strict=True):
            row[space.slice(side)] = volume
        del volumes  # only one hemisphere is in memory twice
    assert values is not None
    return BoldSeries(values, space, _seconds(repetition_time, list(pair.values()), steps))


def _check_space(path: Path, mesh: str) -> None:
    """Refuse a file whose name tells another space: fsLR 164k, onavg and CIVET have equal sizes."""
    found = re.search(r"(?:^|_)space-([A-Za-z0-9]+)|fs_LR", path.name)
    named = found and (found[1] or "fsLR")
    if named not in (None, mesh, "fsLR" if mesh == "fsLR32k" else "fsaverage"):
        raise InputError(
            f"{path.name} tells the space {named}, and {MESHES[mesh]} vertices are read as {mesh}; "
            f"known meshes: {', '.join(MESHES)}"
        )


def _load_gifti(path: Path, side: str) -> _Volumes:
    import nibabel as nib

    with _readable(path, "GIFTI"):
        image = nib.gifti.GiftiImage.from_filename(path)
        arrays = [array.data for array in image.darrays]
        shapes = {array.shape for array in arrays}
    metas = [dict(part.meta) for part in (image, *image.darrays)]
    for structure in {meta[_STRUCTURE] for meta in metas if meta.get(_STRUCTURE)}:
        if structure != STRUCTURES[side]:
            raise InputError(
                f"{path} should be the {side} hemisphere, {STRUCTURES[side]}; its metadata say "
                f"{structure}: are the hemispheres swapped?"
            )
    intents = {nib.nifti1.intent_codes.niistring[array.intent] for array in image.darrays}
    if intents & {"NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE", "NIFTI_INTENT_LABEL"}:
        raise InputError(f"{path} holds a mesh or labels; values over time are expected")
    texts = {meta["TimeStep"] for meta in metas if meta.get("TimeStep")}
    try:
        steps = {float(text) for text in texts}
    except ValueError:
        raise InputError(f"{path} has a TimeStep that is no number: {sorted(texts)}") from None
    if len(shapes) == 1 and arrays[0].ndim == 1:
        return arrays, steps
    if len(arrays) == 1 and arrays[0].ndim == 2:
        return arrays[0].T, steps
    told = ", ".join(str(shape) for shape in sorted(shapes)) or "none"
    raise InputError(f"{path} has data arrays of {told}; one (n,) a volume or one (n, time) fit")


def _load_mgh(path: Path, side: str) -> _Volumes:
    import nibabel as nib

    with _readable(path, "an .mgh file"):
        # From bytes: nibabel leaves a file open, and of a packed one it stops before the checksum.
        held = path.read_bytes()
        packed = path.suffix.lower() == ".mgz"
        image = nib.MGHImage.from_bytes(gzip.decompress(held) if packed else held)
        data = np.asarray(image.dataobj)
        step = float(image.header["tr"])
    if data.ndim not in (3, 4) or data.shape[1:3] != (1, 1):
        raise InputError(f"{path} has shape {data.shape}; (vertices, 1, 1, time) fits")
    return data.reshape(len(data), -1, order="F").T, {step}


@contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a damaged file brings about in its reader
        told = one_line(str(error) or type(error).__name__)
        raise InputError(f"{path} cannot be read as {what}: {told}") from None


def _seconds(given: float | None, paths: list[Path], steps: list[tuple[Path, float]]) -> float:
    """The repetition time: as given, or of the JSON files, or else of the files' time steps."""
    stated = [(path, told) for path in map(_sidecar, paths) for told in _repetition_time(path)]
    steps = [(path, step) for path, step in steps if step]  # 0 is FreeSurfer's "not known"
    if given is not None:
        seconds = float(given)
    elif stated:
        seconds = stated[0][1]
    elif steps:
        seconds = _unit(*steps[0])
    else:
        raise InputError(f"neither {paths[0]} nor a JSON file states a time step; {_ASK_TIME}")
    others = [(path, told, [told]) for path, told in stated]
    others += [(path, step, [step, step / 1000]) for path, step in steps]
    for path, told, readings in others:
        if any(math.isclose(reading, seconds, rel_tol=1e-4) for reading in readings):
            continue
        if given is None:
            first = (stated or steps)[0][0]
            raise InputError(f"{first} states {seconds:g} s, {path} {told:g}; {_ASK_TIME}")
        warnings.warn(f"{path} states {told:g}; {seconds:g} s is used as given", InputWarning, 4)
    return seconds


def _unit(path: Path, step: float) -> float:
    """A time step in s, told from one in ms by its size: a volume takes 0.1 to 30 s."""
    for seconds in (step, step / 1000):
        if 0.1 <= seconds <= 30:
            return round(seconds, 6)  # .mgh has float32
    raise InputError(f"{path} has a time step of {step:g}, neither s nor ms; {_ASK_TIME}")


def _sidecar(path: Path) -> Path:
    return path.with_name(_EXTENSION.sub("", path.name) + ".json")


def _repetition_time(sidecar: Path) -> list[float]:
    """RepetitionTime (s) of a JSON file, if it is there and states one."""
    if not sidecar.is_file():
        return []
    try:
        fields = json.loads(sidecar.read_text("utf-8"))
        return [float(fields["RepetitionTime"])] if "RepetitionTime" in fields else []
    except (ValueError, TypeError) as error:
        raise InputError(f"{sidecar} is damaged: {one_line(str(error))}") from None


def _colour(rank: int) -> tuple[float, float, float]:
    # Steps of the golden ratio around the colour wheel keep neighbours apart.
    return colorsys.hsv_to_rgb(rank * 0.618034 % 1, 0.65, 0.9)
