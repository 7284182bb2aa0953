"""NIfTI volumes in and out: series and maps of a space.

A value of a voxel stands in the file at its place, a value of a vertex in the voxels that
`tribrain.brain.painting` paints it into; where a voxel of the subcortex is one of those, its own
value stands there. All other voxels are 0. Nothing larger than a few volumes is in memory at once
beside the series itself, however long it is.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any
from warnings import warn

import numpy as np

from tribrain.brain.meshes import medial_wall
from tribrain.brain.painting import Ribbon, grid, ribbon
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import Space, Voxels, voxel_space
from tribrain.brain.templates import (
    FAMILY,
    REPRESENTATIVE,
    fields_beside,
    templates_agree,
    volume_template,
)
from tribrain.errors import InputError, InputWarning
from tribrain.files import first_line, require_file, whole_file

_BLOCK = 64_000_000  # bytes of volumes that are read at once


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where the values of a space stand in a grid."""

    space: Space
    template: str
    shape: tuple[int, int, int]
    affine: np.ndarray

    @cached_property
    def voxels(self) -> np.ndarray:
        """Positions of the voxels in a volume that is stored x first."""
        return self._positions(self.space.voxels) if self.space.voxels else np.empty(0, int)

    @cached_property
    def ribbon(self) -> Ribbon | None:
        """The painted voxels that are none of the space's own."""
        if not self.space.is_surface:
            return None
        whole = ribbon(self.space.mesh, self.template, self.shape, self.affine)
        free = ~np.isin(self._positions(whole.voxels), self.voxels)
        left = Voxels(self.template, self.shape, self.affine, whole.voxels.indices[free])
        return replace(whole, voxels=left, vertices=whole.vertices[free])

    @cached_property
    def painted(self) -> np.ndarray:
        """Positions of the ribbon's voxels."""
        return self._positions(self.ribbon.voxels) if self.ribbon else np.empty(0, int)

    @property
    def outside(self) -> int:
        """How many vertices of the cortex the grid does not reach."""
        if self.ribbon is None:
            return 0
        reached = self.ribbon.read(np.ones(len(self.ribbon.voxels), np.float32))
        return int((np.isnan(reached) & ~medial_wall(self.space.mesh)).sum())

    def _positions(self, voxels: Voxels) -> np.ndarray:
        return np.ravel_multi_index(tuple(voxels.indices.T), self.shape, order="F")

    def fill(self, volume: np.ndarray, row: np.ndarray) -> None:
        """Put a row (size,) into a flat volume that is stored x first."""
        if self.ribbon is not None:
            volume[self.painted] = self.ribbon.paint(row[self.space.cortex])
        volume[self.voxels] = row[self.space.cortex.stop :]

    def take(self, volumes: np.ndarray) -> np.ndarray:
        """Values (time, size) of volumes (x, y, z, time)."""
        flat = volumes.reshape(-1, volumes.shape[-1], order="F")
        rows = np.empty((flat.shape[1], self.space.size), np.float32)
        if self.ribbon is not None:
            rows[:, self.space.cortex] = self.ribbon.read(flat[self.painted].T)
        rows[:, self.space.cortex.stop :] = flat[self.voxels].T
        return rows


def check_located(space: Space) -> None:
    """Refuse a space whose values have no known place in the brain."""
    if space.parcels:
        raise InputError(f"{space.name} has one value a region; vertices or voxels fit this file")
    if space.n_voxels and space.voxels is None:
        raise InputError(
            f"it is not known where the {space.n_voxels} voxels of {space.name} lie; give their "
            "mask first (Space.with_voxels, Response.with_voxels)"
        )


def write_volume(
    path: str | Path,
    values: np.ndarray | Iterable[np.ndarray],
    space: Space,
    *,
    repetition_time: float | None = None,
    start: float = 0.0,
    rows: int | None = None,
    template: str | None = None,
    resolution: int = 2,
) -> None:
    """Write a series or a map of a space as a NIfTI-1 volume of single precision.

    Parameters
    ----------
    path : path
        ``.nii`` or ``.nii.gz``. It appears when it is whole.
    values : ndarray (time, size) or (size,), or iterable of rows (size,)
        A series, or one map.
    space : Space
        Voxels are written in their own grid, and vertices are painted into that; without voxels
        into the template's (`tribrain.brain.painting`).
    repetition_time : float
        Seconds from one volume to the next; a map has none.
    start : float
        Time of the first volume, s.
    rows : int, optional
        How many rows an iterable has; needed if it has no length.
    template : str, optional
        One of `TEMPLATES`; by default that of the voxels, or else MNI152NLin6Asym.
    resolution : int
        Edge in mm of the template's grid (`tribrain.brain.painting.grid`), where there are no
        voxels.

    Raises
    ------
    InputError
        Values that do not fit the space, voxels whose places are unknown, another template than
        that of the voxels, a grid that is unknown, a missing repetition time.

    Warns
    -----
    InputWarning
        Where the grid of the voxels does not reach some vertices.

    Notes
    -----
    Headers say code 4 for templates of the MNI152 family and code 2 for others, and NaN stays NaN.
    """
    import nibabel as nib

    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path.name} is no name of a NIfTI file; .nii and .nii.gz fit")
    layout = _layout_to_write(space, template, resolution)
    is_map = isinstance(values, np.ndarray) and values.ndim == 1
    if is_map == (repetition_time is not None):
        wrong = "a map has no" if is_map else "a series needs a"
        raise InputError(f"{wrong} repetition time: series are (time, size) and maps (size,)")
    source: Any = values[None] if is_map else values  # type: ignore[index]
    n_rows = rows if rows is not None or not hasattr(source, "__len__") else len(source)
    if n_rows is None:
        raise InputError("rows without a length: give their number by rows=")
    if not 0 < n_rows < 32768:
        raise InputError(f"{n_rows} volumes do not fit a NIfTI-1 file; 1 to 32767 do")

    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype("<f4")
    header.set_data_shape(layout.shape if is_map else (*layout.shape, n_rows))
    code = 4 if layout.template.startswith(FAMILY) else 2
    header.set_qform(layout.affine, code)
    header.set_sform(layout.affine, code)
    header.set_xyzt_units("mm", "unknown" if is_map else "sec")
    if repetition_time is not None:
        if not 0 < repetition_time < 100:
            raise InputError(f"repetition time {repetition_time:g} s; 0 to 100 s fit")
        header.set_zooms((*header.get_zooms()[:3], repetition_time))
        header["toffset"] = start
    if layout.outside:
        warn(
            f"{layout.outside} vertices of the cortex lie outside the grid of {layout.shape} "
            f"voxels and are not in {path.name}",
            InputWarning,
            stacklevel=2,
        )
    volume = np.zeros(np.prod(layout.shape), "<f4")
    written = 0
    with whole_file(path) as plain, _packed(plain, path) as file:
        header.write_to(file)
        for row in source:
            space.check(row, f"row {written}")
            layout.fill(volume, np.asarray(row))
            file.write(volume.data)
            written += 1
        if written != n_rows:
            raise InputError(f"{written} rows were there and {n_rows} were announced")


def _layout_to_write(space: Space, template: str | None, resolution: int) -> _Layout:
    check_located(space)
    voxels = space.voxels
    if voxels is None:
        template = template or REPRESENTATIVE
        return _Layout(space, template, *grid(template, resolution))
    if template not in (None, voxels.template):
        raise InputError(
            f"the voxels of {space.name} lie in {voxels.template}, not in {template}; leave "
            "template out"
        )
    return _Layout(space, voxels.template, voxels.shape, voxels.affine)


@contextmanager
def _packed(file: IO[bytes], path: Path) -> Iterator[Any]:
    """The file itself, or gzip into it if its name says so; the same values, the same bytes."""
    if path.suffix == ".gz":
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
            yield packed
    else:
        yield file


def read_volume(
    path: str | Path,
    space: Space | None = None,
    *,
    mask: str | Path | Voxels | None = None,
    template: str | None = None,
    repetition_time: float | None = None,
) -> BoldSeries:
    """Read a 4-D NIfTI volume as a series.

    Parameters
    ----------
    path : path
    space : Space, optional
        Whose voxels are taken as they are, and whose vertices are read from the ribbon
        (`tribrain.brain.painting.Ribbon.read`).
    mask : path or Voxels, optional
        Instead of a space: the voxels to take, in the same grid as the volume.
    template : str, optional
        What the volume lies in, if it does not show it (`volume_template`).
    repetition_time : float, optional
        Seconds, if neither the header nor ``RepetitionTime`` in the JSON file beside the volume
        tells; what they tell is overruled with a warning.

    Returns
    -------
    BoldSeries

    Raises
    ------
    InputError
        A damaged file, no 4-D volume, another grid or template than that of the voxels, a
        template or repetition time that is not known or told in two ways.
    """
    path = Path(path)
    image = _open(path)
    if len(image.shape) != 4:
        raise InputError(f"{path} has the shape {image.shape}; a series has four dimensions")
    if (space is None) == (mask is None):
        raise InputError(f"{path}: one of space= and mask= is needed to know which values to take")
    layout = _layout_to_read(image, path, space, mask, template)
    seconds = _repetition_time(image, path, repetition_time)
    n = image.shape[3]
    values = np.empty((n, layout.space.size), np.float32)
    step = max(1, _BLOCK // (8 * int(np.prod(layout.shape))))
    for first in range(0, n, step):
        block = (..., slice(first, min(n, first + step)))
        values[block[1]] = layout.take(readable(path, partial(image.dataobj.__getitem__, block)))
    return BoldSeries(values, layout.space, seconds, _start(image))


def volume_header(path: str | Path) -> tuple[int, float | None]:
    """Number of volumes, and the repetition time (s) that header or sidecar state, if they do.

    No volume is read.

    Raises
    ------
    InputError
        As `read_volume`, where a file is damaged or header and sidecar disagree.
    """
    path = Path(path)
    image = _open(path)
    if len(image.shape) != 4:
        raise InputError(f"{path} has the shape {image.shape}; a series has four dimensions")
    known = _stated_times(image, path)
    return image.shape[3], _one_of(known, path) if known else None


def read_volume_map(path: str | Path, space: Space, *, template: str | None = None) -> np.ndarray:
    """Read a 3-D NIfTI volume as a map (size,), as `read_volume` does a series."""
    path = Path(path)
    image = _open(path)
    if len(image.shape) != 3:
        raise InputError(f"{path} has the shape {image.shape}; a map has three dimensions")
    layout = _layout_to_read(image, path, space, None, template)
    return layout.take(readable(path, lambda: image.dataobj[..., None]))[0]


def _open(path: Path) -> Any:
    import nibabel as nib

    require_file(path, "the volume")
    # Held open, a packed file is read in order; otherwise each block would start at its beginning.
    image = readable(path, lambda: nib.load(path, keep_file_open=True))
    if not isinstance(image, nib.Nifti1Image):
        kind = "CIFTI" if isinstance(image, nib.Cifti2Image) else type(image).__name__
        raise InputError(f"{path} is no NIfTI volume but {kind}; .nii and .nii.gz fit")
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path} holds values of type {image.get_data_dtype()}; real numbers fit")
    return image


def readable(path: Path, reader: Callable[[], Any], kind: str = "NIfTI") -> Any:
    """What a reader of a file returns, or one line of what went wrong in it."""
    try:
        return reader()
    except Exception as error:  # whatever a damaged file brings about in its reader
        raise InputError(f"{path} cannot be read as {kind}: {first_line(error)}") from None


def _layout_to_read(
    image: Any,
    path: Path,
    space: Space | None,
    mask: str | Path | Voxels | None,
    template: str | None,
) -> _Layout:
    if space is not None:
        check_located(space)
    voxels = space.voxels if space is not None else mask if isinstance(mask, Voxels) else None
    # Who gives voxels has said what they lie in.
    told = template or (voxels.template if voxels is not None else None)
    found = volume_template(image, path, space=told, option="template=")
    if isinstance(mask, (str, Path)):
        voxels = read_mask(mask, found)
    if space is None:
        assert voxels is not None
        space = voxel_space(voxels)
    if voxels is not None:
        if not templates_agree(found, voxels.template):
            raise InputError(f"{path} lies in {found} and the voxels in {voxels.template}")
        _check_grid(path, image, voxels)
    return _Layout(space, found, image.shape[:3], np.array(image.affine, float))


def read_mask(path: str | Path, template: str | None = None) -> Voxels:
    """Read the voxels of a mask (a 3-D NIfTI volume), where it is not 0.

    Parameters
    ----------
    path : path
    template : str, optional
        What it lies in, if it does not show it (`tribrain.brain.templates.volume_template`).
    """
    path = Path(path)
    image = _open(path)
    found = volume_template(image, path, space=template, option="template=")
    values = readable(path, lambda: np.asarray(image.dataobj))
    try:
        return Voxels.from_mask(values, image.affine, found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_grid(path: Path, image: Any, voxels: Voxels) -> None:
    if image.shape[:3] != voxels.shape:
        raise InputError(f"{path} has a grid of {image.shape[:3]} and the mask of {voxels.shape}")
    if not np.allclose(image.affine, voxels.affine, atol=1e-3):
        one, other = (
            "; ".join(" ".join(f"{number:g}" for number in row) for row in affine[:3])
            for affine in (image.affine, voxels.affine)
        )
        raise InputError(f"{path} has the affine [{one}] and the mask [{other}]; the same one fits")


_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def _unit(image: Any) -> float | None:
    """Seconds of the header's unit of time, if it has one."""
    return _SECONDS.get(image.header.get_xyzt_units()[1])


def _start(image: Any) -> float:
    start = float(image.header["toffset"]) * (_unit(image) or 0.0)
    return float(f"{start:.7g}") if np.isfinite(start) else 0.0


def _stated_times(image: Any, path: Path) -> dict[str, float]:
    """Repetition time in s by header and by sidecar, as far as they state it."""
    unit, stored = _unit(image), float(image.header["pixdim"][4])
    # A header holds single precision: 1.49 and not 1.4900000095.
    header = float(f"{stored * unit:.7g}") if unit and np.isfinite(stored) and stored > 0 else None
    beside = fields_beside(path).get("RepetitionTime")
    if beside is not None and not isinstance(beside, (int, float)):
        raise InputError(f"RepetitionTime beside {path} is {beside!r}; a number of seconds fits")
    told = {"its header": header, "the JSON file beside it": beside}
    return {where: float(value) for where, value in told.items() if value is not None}


def _one_of(known: dict[str, float], path: Path) -> float:
    if len(known) == 2 and not _same(*known.values()):
        raise InputError(
            f"{path} has a repetition time of {known['its header']:g} s by its header and of "
            f"{known['the JSON file beside it']:g} s by the JSON file beside it; mend one, or "
            "give repetition_time="
        )
    return list(known.values())[-1]


def _repetition_time(image: Any, path: Path, given: float | None) -> float:
    known = _stated_times(image, path)
    if given is not None:
        others = [f"{value:g} s by {k}" for k, value in known.items() if not _same(value, given)]
        if others:
            warn(
                f"{path}: {' and '.join(others)}; read with the repetition time given, {given:g} s",
                InputWarning,
                stacklevel=3,
            )
        return given
    if not known:
        raise InputError(
            f"{path} tells no repetition time: none with a unit in its header, no RepetitionTime "
            "in a JSON file beside it; give repetition_time= in seconds"
        )
    return _one_of(known, path)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= 2e-4 * abs(other)
