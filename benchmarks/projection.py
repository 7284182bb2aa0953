"""Time to project a run to the surface: this package against nilearn's vol_to_surf, in one run.

Both read one file of random volumes of 2 mm and take the mean over a ball of 3 mm around each
vertex of fsaverage5, both hemispheres, linear interpolation. Each runs in a process of its own,
so that its peak of memory is its own; the time is that of the work alone, without imports, and
includes the reading, and for this package the making of the matrix.

Usage: python benchmarks/projection.py [--volumes 600] [--gz] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import scipy

from tribrain.brain.painting import grid
from tribrain.brain.projection import project
from tribrain.brain.spaces import FSAVERAGE, HEMISPHERES

TEMPLATE = "MNI152NLin6Asym"
COARSER = ("fsaverage3", "fsaverage4")


def write_run(path: Path, volumes: int) -> None:
    """A run of float32, written volume by volume."""
    shape, affine = grid(TEMPLATE, 2)
    rng = np.random.default_rng(0)
    header = nib.Nifti1Header()
    header.set_data_shape((*shape, volumes))
    header.set_data_dtype(np.float32)
    header.set_sform(affine, code=4)
    header.set_xyzt_units("mm", "sec")
    with nib.openers.ImageOpener(str(path), "wb") as file:
        header.write_to(file)
        file.write(bytes(header.get_data_offset() - header.sizeof_hdr))
        for _ in range(volumes):
            file.write(rng.normal(10_000, 100, int(np.prod(shape))).astype(np.float32).tobytes())


def ours(path: Path, mesh: str) -> np.ndarray:
    return project(path, mesh, template=TEMPLATE)


def theirs(path: Path, mesh: str) -> np.ndarray:
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import vol_to_surf

    meshes = fetch_surf_fsaverage(mesh)
    parts = [vol_to_surf(path, meshes[f"pial_{side}"], kind="ball") for side in HEMISPHERES]
    return np.concatenate(parts).T.astype(np.float32)


WAYS = {"ours": ours, "nilearn": theirs}


def measured(way: str, path: Path, mesh: str, kept: Path) -> tuple[float, float, float]:
    """Seconds, seconds of processor, peak of memory above that before (GB), in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured_here, (way, path, mesh, kept))


def _measured_here(way: str, path: Path, mesh: str, kept: Path) -> tuple[float, float, float]:
    import nilearn.surface  # noqa: F401
    import scipy.sparse  # noqa: F401

    warnings.simplefilter("ignore")
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, worked = time.perf_counter(), time.process_time()
    result = WAYS[way](path, mesh)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit / 1e9
    np.save(kept, result)
    return seconds, worked, peak


def compared(path: Path, mesh: str, what: str, folder: Path) -> None:
    found, values = {}, {}
    for way in WAYS:
        kept = folder / f"{way}.npy"
        found[way] = measured(way, path, mesh, kept)
        values[way] = np.load(kept)
        kept.unlink()
    difference = np.abs(values["ours"] - values["nilearn"]).max() / np.abs(values["nilearn"]).max()
    (mine, worked, peak), (other, other_worked, other_peak) = found["ours"], found["nilearn"]
    print(
        f"{what:<32}{other:>9.2f}{mine:>8.2f}{other / mine:>8.1f}x{other_worked / worked:>8.1f}x"
        f"{other_peak:>10.2f}{peak:>8.2f}{difference:>10.1e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=600)
    parser.add_argument("--gz", action="store_true", help="a packed file as well")
    parser.add_argument("--folder", type=Path, help="where the run is written, and removed again")
    arguments = parser.parse_args()
    print(f"nilearn {__import__('nilearn').__version__}, scipy {scipy.__version__}, ", end="")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; 91 x 109 x 91 voxels, float32")
    print("memory: above that of the process before; difference: over the largest value")
    heads = ("nilearn, s", "ours, s", "ratio", "by CPU", "nilearn, GB", "ours", "difference")
    print(
        f"{'':<31}"
        + "".join(f"{head:>{w}}" for head, w in zip(heads, (10, 8, 9, 9, 12, 6, 11), strict=True))
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for volumes in (arguments.volumes // 4, arguments.volumes // 2, arguments.volumes):
            path = folder / "run.nii"
            write_run(path, volumes)
            compared(path, "fsaverage5", f"fsaverage5, {volumes} volumes", folder)
            if volumes == arguments.volumes:
                for mesh in COARSER:
                    seconds, _, peak = measured("ours", path, mesh, folder / "ours.npy")
                    n = 2 * FSAVERAGE[mesh]
                    print(
                        f"{f'{mesh}, {n} vertices':<32}{'':>9}{seconds:>8.2f}{'':>28}{peak:>8.2f}"
                    )
            path.unlink()
        if arguments.gz:
            path = folder / "run.nii.gz"
            write_run(path, arguments.volumes)
            compared(path, "fsaverage5", f"packed (.gz), {arguments.volumes} volumes", folder)


if __name__ == "__main__":
    main()
