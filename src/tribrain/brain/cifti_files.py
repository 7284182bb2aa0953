"""CIFTI-2 files in and out: series, maps, labels of vertices and voxels, series of parcels.

Vertices that are NaN throughout, such as a medial wall, are left out of a file; a file's values are
read onto the whole mesh, with NaN where it has none. `tribrain.brain.cifti_axes` says how voxels
are ordered.

Format: CIFTI-2 (https://www.nitrc.org/projects/cifti); its matrix is stored with time (or the
maps) fastest, so one vertex after the other is written and read, and little memory is needed.
"""

from __future__ import annotations

import colorsys
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.cifti_axes import brain_axis, metadata, parcel_axis, space_of_axis
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import Space, parcel_space
from tribrain.brain.volume_files import readable
from tribrain.errors import InputError
from tribrain.files import require_file, whole_file

_INTENTS = {  # extension: code and name in the NIfTI header
    ".dtseries.nii": (3002, "ConnDenseSeries"),
    ".ptseries.nii": (3004, "ConnParcelSries"),
    ".dscalar.nii": (3006, "ConnDenseScalar"),
    ".dlabel.nii": (3007, "ConnDenseLabel"),
}
_BLOCK = 32_000_000  # bytes of values that are handled at once


def write_dtseries(
    path: str | Path,
    values: np.ndarray | BoldSeries,
    space: Space | None = None,
    *,
    repetition_time: float | None = None,
    start: float = 0.0,
) -> None:
    """Write a series of vertices, voxels or both as ``.dtseries.nii``, in single precision.

    Parameters
    ----------
    path : path
        It appears when it is whole.
    values : ndarray (time, size), or BoldSeries, which has all the rest
    space : Space
    repetition_time, start : float
        Seconds from one row to the next, and of the first row.

    Raises
    ------
    InputError
        A name with another extension, values that do not fit the space, voxels whose places are
        not known.
    """
    series = _series(values, space, repetition_time, start)
    time = _time_axis(series)
    brain, order = brain_axis(series.space, _measured(series.values))
    axes = (time, brain)
    _write(path, ".dtseries.nii", axes, _columns(series.values, order), _said(series.space))


def write_ptseries(
    path: str | Path,
    values: np.ndarray,
    regions: Mapping[str, np.ndarray],
    space: Space,
    *,
    repetition_time: float,
    start: float = 0.0,
    atlas: str = "parcels",
) -> None:
    """Write a series of regions as ``.ptseries.nii``.

    Parameters
    ----------
    path : path
    values : ndarray (time, regions)
    regions : mapping of str to ndarray of int
        Which values of `space` each region consists of, in the order of the columns.
    space : Space
        In which the regions lie.
    repetition_time, start : float
        Seconds.
    atlas : str
        Name of the space that `read_cifti` gives.

    Raises
    ------
    InputError
        Values that do not fit the regions, or regions that are empty or outside the space.

    Warns
    -----
    InputWarning
        Where regions overlap, which the format forbids: the file lists a vertex with the first of
        them alone. The values are as given.
    """
    series = BoldSeries(
        np.asarray(values), parcel_space(atlas, list(regions)), repetition_time, start
    )
    axes = (_time_axis(series), parcel_axis(regions, space))
    said = _said(space) | {"Atlas": atlas}
    _write(path, ".ptseries.nii", axes, _columns(series.values, np.arange(len(regions))), said)


def write_dscalar(path: str | Path, maps: np.ndarray, names: Sequence[str], space: Space) -> None:
    """Write maps (n_maps, size) with their names as ``.dscalar.nii``, in single precision."""
    from nibabel.cifti2 import ScalarAxis

    maps = np.asarray(maps)
    if maps.ndim != 2 or len(maps) != len(names) or not len(maps):
        raise InputError(f"{len(names)} names and maps of shape {maps.shape}; (names, values) fit")
    space.check(maps, "the maps")
    brain, order = brain_axis(space, _measured(maps))
    axes = (ScalarAxis(list(names)), brain)
    _write(path, ".dscalar.nii", axes, _columns(maps, order), _said(space))


def write_dlabel(
    path: str | Path,
    labels: np.ndarray,
    names: Mapping[int, str],
    space: Space,
    *,
    title: str = "labels",
) -> None:
    """Write a label a value as ``.dlabel.nii``, with colours that tell regions apart.

    Parameters
    ----------
    path : path
    labels : ndarray (size,), int
        0 where there is no region.
    names : mapping of int to str
        Of every label but 0, which is ``???`` unless it has a name.
    space : Space
    title : str
        Name of the one map.
    """
    from nibabel.cifti2 import LabelAxis

    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(f"labels are {labels.dtype} {labels.shape}; whole numbers (size,) fit")
    space.check(labels, "the labels")
    unnamed = sorted(set(np.unique(labels).tolist()) - set(names) - {0})
    if unnamed:
        raise InputError(f"label {unnamed[0]} has no name; named: {_some(sorted(names))}")
    if len(labels) and np.abs(labels).max() > 2**24:
        raise InputError("labels beyond 2**24 do not fit single precision")
    table = {0: ("???", (0.0, 0.0, 0.0, 0.0))}
    for place, (key, name) in enumerate(names.items()):
        # Steps by the golden ratio never come close to an earlier hue.
        table[int(key)] = (name, (*colorsys.hsv_to_rgb(place * 0.618034 % 1, 0.7, 0.9), 1.0))
    brain, order = brain_axis(space, np.ones(space.size, bool))
    axes = (LabelAxis([title], [table]), brain)
    _write(path, ".dlabel.nii", axes, _columns(labels[None], order), _said(space))


def _some(keys: list[int]) -> str:
    return ", ".join(map(str, keys[:8])) + (", ..." if len(keys) > 8 else "")


def _series(
    values: np.ndarray | BoldSeries,
    space: Space | None,
    repetition_time: float | None,
    start: float,
) -> BoldSeries:
    if isinstance(values, BoldSeries):
        return values
    if space is None or repetition_time is None:
        raise InputError("an array needs its space and its repetition time; a BoldSeries has both")
    return BoldSeries(np.asarray(values), space, repetition_time, start)


def _time_axis(series: BoldSeries) -> Any:
    from nibabel.cifti2 import SeriesAxis

    if not len(series.values):
        raise InputError("the series has no rows; one or more fit")
    start, step = float(series.start), float(series.repetition_time)
    return SeriesAxis(start, step, len(series.values), "SECOND")


def _said(space: Space) -> dict[str, str]:
    """What the format itself has no place for."""
    template = {"Template": space.voxels.template} if space.voxels is not None else {}
    return {"Space": space.name} | template


def _measured(values: np.ndarray) -> np.ndarray:
    """Which columns hold a number in any row."""
    found = np.zeros(values.shape[1], bool)
    step = max(1, _BLOCK // (4 * max(1, values.shape[1])))
    for first in range(0, len(values), step):
        found |= ~np.isnan(values[first : first + step]).all(axis=0)
        if found.all():
            break
    return found


def _columns(values: np.ndarray, order: np.ndarray) -> Iterator[np.ndarray]:
    """Values (rows, size) in the order of the file, some columns at a time."""
    step = max(1, _BLOCK // (4 * max(1, len(values))))
    for first in range(0, len(order), step):
        yield np.ascontiguousarray(values[:, order[first : first + step]].T, "<f4")


def _write(
    path: str | Path,
    extension: str,
    axes: tuple[Any, Any],
    columns: Iterator[np.ndarray],
    said: Mapping[str, str],
) -> None:
    import nibabel as nib
    from nibabel.cifti2 import Cifti2Header, Cifti2MetaData
    from nibabel.nifti1 import Nifti1Extension

    path = Path(path)
    if not path.name.endswith(extension):
        raise InputError(f"{path.name} is no name of this kind of file; {extension} fits")
    matrix = Cifti2Header.from_axes(axes)
    matrix.matrix.metadata = Cifti2MetaData(dict(said))
    header = nib.Nifti2Header(endianness="<")
    header.set_data_dtype("<f4")
    header.set_data_shape((1, 1, 1, 1, *map(len, axes)))
    code, name = _INTENTS[extension]
    header.set_intent(code, name=name)
    header.extensions.append(Nifti1Extension(32, matrix.to_xml()))
    with whole_file(path) as file:
        header.write_to(file)
        for block in columns:
            file.write(block.data)


def read_cifti(path: str | Path, *, template: str | None = None) -> BoldSeries:
    """Read a series: ``.dtseries.nii`` onto the whole mesh, ``.ptseries.nii`` as parcels.

    Parameters
    ----------
    path : path
    template : str, optional
        One of `tribrain.brain.spaces.TEMPLATES`, in which the voxels lie. By default what tribrain
        wrote, ``space-`` in the file's name, or the template that has this grid: fsLR's 91k
        grayordinates are in the 2 mm grid of MNI152NLin6Asym.

    Returns
    -------
    BoldSeries
        NaN at vertices that the file has not.

    Raises
    ------
    InputError
        A damaged file or one of another kind, an unknown mesh, a series that is not in seconds,
        voxels of which nothing tells the template.
    """
    from nibabel.cifti2 import BrainModelAxis, ParcelsAxis, SeriesAxis

    path = Path(path)
    image, axes = _open(path)
    time, places = axes
    if not isinstance(time, SeriesAxis) or not isinstance(places, (BrainModelAxis, ParcelsAxis)):
        raise InputError(f"{path} holds no series; .dtseries.nii and .ptseries.nii do")
    if time.unit != "SECOND":
        raise InputError(f"the series of {path} is in {time.unit}; SECOND fits")
    if isinstance(places, ParcelsAxis):
        space = parcel_space(_atlas(path, image), [str(name) for name in places.name])
        order = np.arange(len(places))
    else:
        space, order = space_of_axis(path, image, places, template)
    return BoldSeries(
        _values(path, image, space, order), space, float(time.step), float(time.start)
    )


def series_header(path: str | Path) -> tuple[int, float]:
    """Number of rows of a series and seconds between them; no values are read."""
    from nibabel.cifti2 import SeriesAxis

    path = Path(path)
    image, (time, _) = _open(path)
    if not isinstance(time, SeriesAxis) or time.unit != "SECOND":
        raise InputError(f"{path} holds no series in seconds; .dtseries.nii and .ptseries.nii do")
    return image.shape[0], float(time.step)


def read_maps(
    path: str | Path, *, template: str | None = None
) -> tuple[np.ndarray, list[str], Space]:
    """Read ``.dscalar.nii``: maps (n_maps, size) on the whole mesh, their names, their space.

    The template is found as by `read_cifti`.
    """
    from nibabel.cifti2 import BrainModelAxis, ScalarAxis

    path = Path(path)
    image, (maps, places) = _open(path)
    if not isinstance(maps, ScalarAxis) or not isinstance(places, BrainModelAxis):
        raise InputError(f"{path} holds no maps of vertices or voxels; .dscalar.nii does")
    space, order = space_of_axis(path, image, places, template)
    return _values(path, image, space, order), [str(name) for name in maps.name], space


def _open(path: Path) -> tuple[Any, tuple[Any, Any]]:
    import nibabel as nib

    require_file(path, "the CIFTI file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes that do not fit are an error below
        image = readable(path, lambda: nib.load(path), "CIFTI")
    if not isinstance(image, nib.Cifti2Image):
        raise InputError(
            f"{path} is no CIFTI-2 file; .dtseries.nii, .ptseries.nii, .dscalar.nii fit"
        )
    axes = readable(
        path, lambda: tuple(image.header.get_axis(i) for i in range(len(image.shape))), "CIFTI"
    )
    if len(axes) != 2 or image.shape != tuple(map(len, axes)):
        told = " x ".join(str(len(axis)) for axis in axes)
        raise InputError(f"{path} is damaged: {image.shape} values, and its header says {told}")
    return image, axes


def _values(path: Path, image: Any, space: Space, order: np.ndarray) -> np.ndarray:
    values = np.full((image.shape[0], space.size), np.nan, np.float32)
    step = max(1, _BLOCK // (8 * max(1, len(values))))
    for first in range(0, len(order), step):
        block = slice(first, min(len(order), first + step))
        read = partial(image.dataobj.__getitem__, (slice(None), block))
        values[:, order[block]] = readable(path, read, "CIFTI")
    return values


def _atlas(path: Path, image: Any) -> str:
    label = re.search(r"(?:^|_)(?:seg|atlas)-([A-Za-z0-9+]+)", path.name)
    return metadata(image).get("Atlas") or (label[1] if label else "parcels")
