"""BOLD that lies in the files of neuroimaging: surfaces, CIFTI, volumes.

Arrays (NumPy, HDF5, text) are in `tribrain.studies.arrays`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tribrain.brain.cifti_files import read_cifti, series_header
from tribrain.brain.projection import project
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import mesh_space
from tribrain.brain.spheres import resample
from tribrain.brain.surface_files import gifti_header, read_gifti
from tribrain.brain.volume_files import volume_header
from tribrain.errors import InputError


@dataclass(frozen=True)
class SurfaceBold:
    """A GIFTI file a hemisphere, taken to a mesh.

    Attributes
    ----------
    left, right : Path
    mesh : str
        One of `tribrain.brain.spaces.MESHES`; the series is resampled to it on the sphere
        (`tribrain.brain.spheres.resample`) where it lies on another.
    repetition_time : float, optional
        Seconds, where the files do not state it, or state it wrongly.
    """

    left: Path
    right: Path
    mesh: str = "fsaverage5"
    repetition_time: float | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.left, self.right)

    def header(self) -> tuple[int, float | None]:
        """Number of volumes and the repetition time that the files state."""
        return gifti_header(self.left)

    def load(self) -> BoldSeries:
        """Read both hemispheres, on the mesh."""
        found = read_gifti((self.left, self.right), repetition_time=self.repetition_time)
        values = resample(found.values, found.space.mesh, self.mesh)
        return BoldSeries(values, mesh_space(self.mesh), found.repetition_time, found.start)


@dataclass(frozen=True)
class CiftiBold:
    """A dense CIFTI series, of which the cortex is taken to a mesh, or a parcellated one.

    Attributes
    ----------
    path : Path
    mesh : str, optional
        As of `SurfaceBold`; None keeps everything as it is, voxels too.
    template : str, optional
        In which the voxels lie, if the file does not tell.
    """

    path: Path
    mesh: str | None = "fsaverage5"
    template: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def header(self) -> tuple[int, float | None]:
        """Number of rows and seconds between them."""
        return series_header(self.path)

    def load(self) -> BoldSeries:
        """Read the series."""
        found = read_cifti(self.path, template=self.template)
        if self.mesh is None or found.space.parcels:
            return found
        if not found.space.is_surface:
            raise InputError(f"{self.path} holds no cortex to take to {self.mesh}")
        values = resample(found.values[:, found.space.cortex], found.space.mesh, self.mesh)
        return BoldSeries(values, mesh_space(self.mesh), found.repetition_time, found.start)


@dataclass(frozen=True)
class VolumeBold:
    """A 4-D NIfTI volume in a template, projected to a mesh.

    Attributes
    ----------
    path : Path
    template : str
        One of `tribrain.brain.spaces.TEMPLATES`.
    mesh : str
    repetition_time : float
        Seconds, as the study documents it: some headers are wrong (see the study).
    how : mapping
        Of `tribrain.brain.projection.project`: kind, radius, coordinates, ...
    """

    path: Path
    template: str
    repetition_time: float
    mesh: str = "fsaverage5"
    how: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def header(self) -> tuple[int, float | None]:
        """Number of volumes and the repetition time of the header."""
        return volume_header(self.path)

    def load(self) -> BoldSeries:
        """Read and project the volumes, some at a time."""
        values = project(self.path, self.mesh, template=self.template, **self.how)
        return BoldSeries(values, mesh_space(self.mesh), self.repetition_time)
