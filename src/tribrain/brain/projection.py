"""Runs of volumes to vertices, by one sparse matrix that serves every volume of a grid.

A vertex takes the mean of samples around it, each interpolated between voxels, as nilearn's
``vol_to_surf`` does it volume by volume; as the samples' places depend on the grid alone, all of
it is one product with a matrix. The rules are nilearn's, and so are the numbers:

- ``ball``: 20 samples spread evenly over a ball of 3 mm around the vertex (nilearn's ``ball``).
- ``line``: 10 samples evenly from the pial to the white surface, ends included (nilearn's
  ``depth``).
- ``nearest``: the one voxel that holds the vertex.

A sample outside the volume or the mask is left out of the mean. So is, volume by volume, one that
needs a voxel that is not finite: NaN says that nothing was measured there (nilearn leaves it out
too, but lets infinite values through). A vertex without any sample left is NaN.

Where fsaverage lies is a choice of its own. Its surfaces lie in MNI305, where the same place has
coordinates 1 to 3 mm from those in MNI152. ``published`` takes them as they stand, as if they were
MNI152: so do nilearn's examples and the published program, whose models were fitted to responses
that were read there, and numbers agree only if others are read in the same way. For that reason
alone it is the default. ``registered`` moves them to the template by FreeSurfer's matrix
(`tribrain.brain.meshes.to_template`); it is the more accurate, and the one to take where nothing
is compared with a published model. fsLR32k lies in MNI152 either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.templates import check_header, volume_template
from tribrain.brain.volume_samples import matrix_of, matrix_without, sampling
from tribrain.errors import InputError
from tribrain.files import first_line, require_file

Progress = Callable[[str, int, int], None]

_BLOCK = 64_000_000  # bytes of volumes that are in memory at once
_PATTERNS = 8  # sets of missing voxels whose matrices are


def projection_matrix(
    mesh: str,
    shape: Sequence[int],
    affine: np.ndarray,
    *,
    template: str,
    kind: str = "ball",
    radius: float = 3.0,
    interpolation: str = "linear",
    surface: str | None = None,
    coordinates: str = "published",
    mask: np.ndarray | None = None,
) -> Any:
    """The matrix from the voxels of a grid to the vertices of both hemispheres.

    The last few are kept, so that asking again costs nothing.

    Parameters
    ----------
    mesh : str
        One of `tribrain.brain.spaces.MESHES`.
    shape : three int
    affine : ndarray (4, 4)
        From voxel indices to mm in the template.
    template : str
        One of `tribrain.brain.spaces.TEMPLATES`.
    kind : {"ball", "line", "nearest"}
        See the head of this module.
    radius : float
        Of the ball, mm.
    interpolation : {"linear", "nearest"}
        Between the voxels around a sample, or the voxel that holds it (``nearest`` has no other).
    surface : {"pial", "mid", "white"}, optional
        Around whose vertices the samples lie: by default pial for ``ball``, as in the published
        recipe, and midway through the cortex for ``nearest``. ``line`` goes from pial to white.
    coordinates : {"published", "registered"}
        See the head of this module.
    mask : ndarray (x, y, z), optional
        Samples in voxels that are 0 or NaN here are left out.

    Returns
    -------
    scipy.sparse.csr_array (2 n, x * y * z), float32, read-only
        Voxels in C order (``volume.ravel()``), left vertices first. Each row sums to 1; that of a
        vertex without any sample is empty, and its value is NaN, not 0.

    Raises
    ------
    InputError
        An unknown name, a damaged affine, a mask of another shape or without any sample, or a
        volume in which fewer than half of the vertices have one.
    """
    return matrix_of(
        sampling(
            mesh,
            shape,
            affine,
            template=template,
            kind=kind,
            radius=radius,
            interpolation=interpolation,
            surface=surface,
            coordinates=coordinates,
            mask=mask,
        )
    )


def project(
    image: Any,
    mesh: str,
    *,
    template: str,
    mask: np.ndarray | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> np.ndarray:
    """Project a run of volumes to the vertices of both hemispheres.

    A file is read once, some volumes at a time, whether it is packed or not.

    Parameters
    ----------
    image : nibabel image or path
        Four dimensions, the last of which is time.
    mesh, mask
        As of `projection_matrix`.
    template : str
        In which the volumes lie. Name, sidecar and header of the file must not speak against it
        (`tribrain.brain.templates.volume_template`); of an image in memory the header alone.
    progress : function (what, done, total), optional
        Called with the number of volumes that are done.
    **how
        ``kind``, ``radius``, ``interpolation``, ``surface``, ``coordinates`` of
        `projection_matrix`.

    Returns
    -------
    ndarray (time, 2 n), float32
        Left vertices first. NaN where a vertex has no sample in the volume and the mask, or none
        whose voxels are finite at that time.

    Raises
    ------
    InputError
        As by `projection_matrix`; a file that cannot be read, or holds no run of volumes; one
        that lies in another template, or whose header has no affine.

    Warns
    -----
    InputWarning
        Where `template` alone speaks against the header.

    Examples
    --------
    >>> bold = project("run-1_bold.nii.gz", "fsaverage5", template="MNI152NLin6Asym")
    """
    name, image = _opened(image)
    shape = image.shape[:3]
    if len(image.shape) != 4 or not image.shape[3]:
        raise InputError(f"{name} has shape {image.shape}; four dimensions (x, y, z, time) fit")
    if image.dataobj.dtype.kind not in "fiub":
        raise InputError(f"{name} holds {image.dataobj.dtype}; real numbers fit")
    found = volume_template(image, space=template, option="template=")
    try:
        taken = sampling(mesh, shape, image.affine, template=found, mask=mask, **how)
        used, matrix = _narrowed(matrix_of(taken), shape)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None

    @lru_cache(maxsize=_PATTERNS)
    def without(pattern: bytes) -> Any:
        missing = np.zeros(int(np.prod(shape)), bool)
        missing[used] = np.frombuffer(pattern, bool)
        return matrix_without(taken, missing)[:, used]

    result = np.empty((image.shape[3], matrix.shape[0]), np.float32)
    for first, values in _blocks(name, image, used):
        rows = slice(first, first + values.shape[1])
        result[rows] = _product(matrix, values, without).T
        if progress is not None:
            progress("projection", rows.stop, len(result))
    return result


def _narrowed(matrix: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, Any]:
    """Voxels (used,) that a matrix uses, in the order of a file (x fastest), and their columns."""
    from scipy.sparse import csr_array

    used = np.unique(matrix.indices)
    used = used[np.argsort(_file_order(used, shape))]
    column = np.empty(matrix.shape[1], np.int32)
    column[used] = np.arange(len(used))
    parts = (matrix.data, column[matrix.indices], matrix.indptr)
    return used, csr_array(parts, (matrix.shape[0], len(used)))


def _file_order(voxels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.ravel_multi_index(np.unravel_index(voxels, shape), shape, order="F")


def _product(matrix: Any, values: np.ndarray, without: Callable[[bytes], Any]) -> np.ndarray:
    """Voxels (used, k) to vertices (n, k); volumes that miss the same voxels go together."""
    result: np.ndarray = matrix @ values
    result[np.diff(matrix.indptr) == 0] = np.nan
    missing = ~np.isfinite(values)
    patterns: dict[bytes, list[int]] = {}
    for volume in np.flatnonzero(missing.any(axis=0)):
        patterns.setdefault(missing[:, volume].tobytes(), []).append(int(volume))
    for pattern, volumes in patterns.items():
        if missing[:, volumes[0]].all():
            result[:, volumes] = np.nan
            continue
        rest = without(pattern)
        part = rest @ np.nan_to_num(values[:, volumes], posinf=0, neginf=0)
        part[np.diff(rest.indptr) == 0] = np.nan
        result[:, volumes] = part
    return result


def _opened(image: Any) -> tuple[str, Any]:
    """What to call an image in messages, and the image."""
    import nibabel as nib

    name = "the image"
    if isinstance(image, str | Path):
        name = str(require_file(image, "the run"))
        try:
            image = nib.load(name)
        except Exception as error:  # whatever a damaged file brings about in its reader
            raise InputError(f"{name} cannot be read as volumes: {first_line(error)}") from None
    if not isinstance(image, nib.spatialimages.SpatialImage):
        raise InputError(f"{name} is a {type(image).__name__}; a NIfTI image of volumes fits")
    check_header(image, name)
    return name, image


def _blocks(name: str, image: Any, used: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Some volumes after the other: number of the first, values (used, k) in single precision."""
    from nibabel.arrayproxy import ArrayProxy

    data = image.dataobj
    order, count = _file_order(used, image.shape[:3]), image.shape[3]
    slope, inter = 1.0, 0.0
    size = int(np.prod(image.shape[:3]))
    step = max(1, _BLOCK // (size * max(4, data.dtype.itemsize)))
    if type(data) is ArrayProxy and isinstance(data.file_like, str):
        # In order and from one open file: a packed one is unpacked once. Scaled are those voxels
        # alone that are used.
        slope, inter = float(data.slope), float(data.inter)
        blocks = _read(data, size, step)
    else:
        parts = (data[..., first : first + step] for first in range(0, count, step))
        blocks = (part.T.reshape(part.shape[3], size) for part in parts)
    first = 0
    while True:
        try:
            block = next(blocks, None)
        except Exception as error:  # whatever a damaged file brings about in its reader
            raise InputError(f"{name} cannot be read to its end: {first_line(error)}") from None
        if block is None:
            return
        values = block.take(order, axis=1)
        if (slope, inter) != (1.0, 0.0):
            values = values * slope + inter
        yield first, np.ascontiguousarray(values.T, np.float32)
        first += len(block)


def _read(data: Any, size: int, step: int) -> Iterator[np.ndarray]:
    """Volumes of a file (k, voxels) as they are stored, some at a time in the same memory."""
    from nibabel.openers import ImageOpener

    buffer = np.empty((step, size), data.dtype)
    with ImageOpener(data.file_like) as file:
        file.seek(data.offset)
        for first in range(0, data.shape[3], step):
            block = buffer[: data.shape[3] - first]
            left = block.view(np.uint8).reshape(-1).data
            while len(left):
                got = file.readinto(left)
                if not got:
                    raise EOFError(f"it ends within volumes {first} to {first + len(block)}")
                left = left[got:]
            yield block
        while file.read(1_000_000):  # to the end, where the checksum of a packed file stands
            pass
