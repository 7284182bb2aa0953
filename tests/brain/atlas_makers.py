"""Small label files of every format, written with nibabel; left and right differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import cifti2, gifti

N = 642
"""Vertices a hemisphere of fsaverage3."""
NAMES = ("Medial_wall", "V1", "V2", "A5")
STRUCTURES = {"left": "CortexLeft", "right": "CortexRight"}


def labels(side: str, n: int = N, seed: int = 0) -> np.ndarray:
    """Numbers 0 (the wall) to 3, of other sizes in the other hemisphere."""
    shares = {"left": (0.1, 0.2, 0.3, 0.4), "right": (0.15, 0.45, 0.25, 0.15)}[side]
    random = np.random.default_rng([seed, side == "right"])
    return random.choice(4, n, p=shares).astype(np.int32)


def write_annot(path: Path, values: np.ndarray, names: Sequence[str] = NAMES) -> Path:
    """A FreeSurfer annotation; -1 is no region."""
    colours = np.array([[20 + 7 * k, 30 + k, 40, 0, 0] for k in range(len(names))])
    nib.freesurfer.write_annot(path, values, colours, list(names), fill_ctab=True)
    return path


def write_gifti(
    path: Path,
    maps: Mapping[str, np.ndarray],
    structure: str | None,
    names: Sequence[str] = NAMES,
    intent: str = "NIFTI_INTENT_LABEL",
) -> Path:
    """GIFTI labels, one array a map."""
    table = gifti.GiftiLabelTable()
    for key, name in enumerate(names):
        label = gifti.GiftiLabel(key, 0.1 * key, 0.5, 0.5, 1.0)
        label.label = name
        table.labels.append(label)
    meta = {} if structure is None else {"AnatomicalStructurePrimary": structure}
    image = gifti.GiftiImage(meta=gifti.GiftiMetaData(meta), labeltable=table)
    for title, values in maps.items():
        array = gifti.GiftiDataArray(
            np.asarray(values, np.int32), intent=intent, meta=gifti.GiftiMetaData({"Name": title})
        )
        image.add_gifti_data_array(array)
    nib.save(image, path)
    return path


def write_mgh(path: Path, values: np.ndarray) -> Path:
    """A label map with one value a vertex."""
    data = np.asarray(values).reshape(-1, 1, 1)
    nib.save(nib.MGHImage(data, np.eye(4)), path)
    return path


def write_cifti(
    path: Path,
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    n: int = N,
    names: Sequence[str] = NAMES,
    titles: Sequence[str] = ("labels",),
    voxels: np.ndarray | None = None,
) -> Path:
    """CIFTI-2 labels: for each hemisphere its vertices and their numbers (the first map's).

    Further maps hold the same numbers but 1 in place of all others; `voxels` are labels of a
    thalamus after the surface.
    """
    axes, values = [], []
    for side, (vertices, numbers) in parts.items():
        axis = cifti2.BrainModelAxis.from_surface(vertices, n, f"cortex_{side}")
        axes.append(axis)
        values.append(numbers)
    if voxels is not None:
        mask = np.zeros((4, 4, 4), bool)
        mask.ravel()[: len(voxels)] = True
        axes.append(cifti2.BrainModelAxis.from_mask(mask, "thalamus_left", np.eye(4)))
        values.append(voxels)
    model = axes[0]
    for axis in axes[1:]:
        model = model + axis
    first = np.concatenate(values).astype(np.float32)
    data = np.stack([first if k == 0 else np.ones_like(first) for k in range(len(titles))])
    table = {k: (name, (0.1 * k, 0.2, 0.3, 1.0)) for k, name in enumerate(names)}
    header = cifti2.Cifti2Header.from_axes(
        (cifti2.LabelAxis(list(titles), [table] * len(titles)), model)
    )
    nib.save(cifti2.Cifti2Image(data, header), path)
    return path


def write_volume(path: Path, data: np.ndarray, affine: np.ndarray, code: int = 2) -> Path:
    """NIfTI; `code` 2 says that it is aligned to something, 4 to MNI152."""
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=code)
    nib.save(image, path)
    return path
