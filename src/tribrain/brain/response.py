"""A predicted response: time by vertex, with its clock, its space and what made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.meshes import surface
from tribrain.brain.region_tables import over_time, region_table
from tribrain.brain.spaces import HEMISPHERES, Space, Voxels, find_space, parcel_space
from tribrain.brain.summaries import (
    Moments,
    Peak,
    chosen_rows,
    correlation_over_space,
    correlation_over_time,
    cortex_mask,
    find_peak,
    mean_of_rows,
    telling_rows,
)
from tribrain.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from nilearn.surface import SurfaceImage

    from tribrain.brain.atlases import Atlas

UNIT = "z-scored BOLD signal, no absolute amplitude"


def place(data: xr.DataArray, space: Space) -> xr.DataArray:
    """Return values (..., vertex) with their space in coordinates and attributes.

    ``hemisphere`` is left, right, or empty for a voxel; ``i``, ``j``, ``k`` and ``structure`` tell
    where a voxel lies (-1 and empty for a vertex). `space_of` reads them.
    """
    space.check(data, "the response")
    attrs: dict[str, Any] = {"space": space.name}
    coordinates: dict[str, Any] = {}
    if space.is_surface:
        counts = [space.n_left, space.n_right, space.n_voxels]
        coordinates["hemisphere"] = ("vertex", np.repeat([*HEMISPHERES, ""], counts))
    if space.parcels:
        attrs["parcels"] = list(space.parcels)
    if space.voxels is not None:
        voxels, first = space.voxels, space.cortex.stop
        for axis, name in enumerate("ijk"):
            index = np.full(space.size, -1, np.int32)
            index[first:] = voxels.indices[:, axis]
            coordinates[name] = ("vertex", index)
        if voxels.structures is not None:
            structures = np.concatenate([np.full(first, ""), voxels.structures])
            coordinates["structure"] = ("vertex", structures)
        attrs |= {
            "template": voxels.template,
            "grid": list(voxels.shape),
            "affine": [float(number) for number in voxels.affine.ravel()],
        }
    return data.assign_coords(coordinates).assign_attrs(attrs)


def space_of(data: xr.DataArray) -> Space:
    """The space of values that `place` has put into one."""
    return space_in(
        data.attrs, data.sizes["vertex"], {str(key): data[key].values for key in data.coords}
    )


def space_in(attrs: Mapping[str, Any], size: int, coords: Mapping[str, np.ndarray]) -> Space:
    """The space that attributes and coordinates of `place` describe."""
    if "parcels" in attrs:
        return parcel_space(attrs["space"], attrs["parcels"])
    space = find_space(attrs["space"], size)
    if "grid" not in attrs:
        return space
    first = space.cortex.stop
    structures = coords["structure"][first:] if "structure" in coords else None
    indices = np.stack([coords[axis][first:] for axis in "ijk"], axis=1)
    affine = np.reshape(attrs["affine"], (4, 4))
    return space.with_voxels(Voxels(attrs["template"], attrs["grid"], affine, indices, structures))


@dataclass(frozen=True, eq=False)
class Response:
    """The response of a brain to a stimulus, one row a second.

    Attributes
    ----------
    data : xarray.DataArray (time, vertex), float32
        Coordinates: ``time`` (s of stimulus, start of the row), ``bold_time`` (time + lag: when
        the scanner would see it), ``stimulus`` (False where no event falls); ``accuracy``
        (vertex) where the model knows how well it predicts. Attributes: space, unit, lag, model,
        revision, subject, modalities, licence, label.
    provenance : dict
        What made it, as plain data (`save` writes it as JSON).
    """

    data: xr.DataArray
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_rows(
        cls,
        rows: np.ndarray,
        *,
        lag: float,
        stimulus: np.ndarray,
        space: str | Space | None,
        attrs: dict[str, Any],
        provenance: dict[str, Any],
    ) -> Response:
        """Make a response from one row a second (rows, outputs), from 0 s on."""
        import xarray as xr

        found = space if isinstance(space, Space) else find_space(space, rows.shape[1])
        found.check(rows, "the response")
        time = np.arange(len(rows), dtype=float)
        data = xr.DataArray(
            np.asarray(rows, np.float32),
            dims=("time", "vertex"),
            coords={
                "time": ("time", time, {"units": "s", "long_name": "time of stimulus"}),
                "bold_time": ("time", time + lag, {"units": "s", "long_name": "time of BOLD"}),
                "stimulus": ("time", np.asarray(stimulus, bool)),
            },
            name="response",
            attrs={"space": found.name, "unit": UNIT, "lag": float(lag), **attrs},
        )
        return cls(place(data, found), provenance)

    @property
    def space(self) -> Space:
        return space_of(self.data)

    def with_voxels(self, voxels: Voxels) -> Response:
        """The same response, now that it is known where its voxels lie.

        Raises
        ------
        InputError
            If the mask has another number of voxels than the response.
        """
        return Response(place(self.data, self.space.with_voxels(voxels)), self.provenance)

    @property
    def accuracy(self) -> xr.DataArray | None:
        """How well the model predicts each value (vertex,), float32; None where it is not known.

        NaN where it is not defined. Attributes: ``long_name`` says of what study and measure.
        """
        return self.data["accuracy"] if "accuracy" in self.data.coords else None

    def with_accuracy(self, values: np.ndarray, labels: Mapping[str, Any]) -> Response:
        """The same response, with how well its model predicts each value.

        Parameters
        ----------
        values : ndarray (outputs,)
        labels : mapping of str to str or number
            Attributes of the coordinate, ``long_name`` among them.

        Raises
        ------
        InputError
            If there are more or fewer values than the response has.
        """
        self.space.check(values, "the accuracy")
        coordinate = ("vertex", np.array(values, np.float32), dict(labels))
        return Response(self.data.assign_coords(accuracy=coordinate), self.provenance)

    def to_surface_image(self) -> SurfaceImage:
        """The response as a nilearn surface image (vertices by time), on the pial mesh.

        Of fsLR32k, whose pial surface is not in every collection, on the middle one.

        Raises
        ------
        InputError
            If the space is no surface.
        """
        from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

        space = self.space
        kind = "mid" if space.mesh == "fsLR32k" else "pial"
        meshes = {
            side: InMemoryMesh(*(part.copy() for part in surface(space.mesh, side, kind)))
            for side in HEMISPHERES
        }
        values = {side: self.data.values[:, space.slice(side)].T for side in HEMISPHERES}
        return SurfaceImage(mesh=PolyMesh(**meshes), data=values)

    def regions(self, atlas: str | Path | Atlas = "textbook") -> pd.DataFrame:
        """Mean response of each region, over its vertices outside the medial wall.

        Parameters
        ----------
        atlas : str, path or Atlas
            A name or files (`tribrain.brain.atlases.load_atlas`).

        Returns
        -------
        DataFrame (time, region)
            NaN where nothing of a region is there. Parcels are regions already: they come as
            they are.
        """
        return over_time(self.data, self.space, atlas)

    def region_table(self, atlas: str | Path | Atlas = "textbook", **options: Any) -> pd.DataFrame:
        """Mean, peak and share of the variance of each region (`region_tables.region_table`)."""
        return region_table(self.data, self.space, atlas, **options)

    def contrast(self, a: Moments, b: Moments) -> xr.DataArray:
        """Mean response to the moments `a` less that to the moments `b`.

        Parameters
        ----------
        a, b : sequence of (start, end), or of bool
            Spans in seconds of the *stimulus* (the lag is already in the response: row t is the
            BOLD at t + lag), or a truth value a row.

        Returns
        -------
        DataArray (vertex,), float32
            NaN in the medial wall. Attributes: those of the response, and the numbers of rows.

        Raises
        ------
        InputError
            If `a` or `b` chooses no row, or both choose the same.
        """
        values, time = self.data.values, self.data["time"].values
        in_a, in_b = chosen_rows(a, time, "a"), chosen_rows(b, time, "b")
        if np.array_equal(in_a, in_b):
            raise InputError("a and b choose the same rows; there is nothing to compare")
        difference = mean_of_rows(values, in_a) - mean_of_rows(values, in_b)
        numbers = {"rows_a": int(in_a.sum()), "rows_b": int(in_b.sum())}
        return self._map(difference, "contrast").assign_attrs(numbers)

    def similarity(self, other: Response, over: str = "time") -> xr.DataArray:
        """Pearson correlation with another response in the same space: the same places in order.

        Only the seconds that both have are compared, each with the same second of the other.

        Parameters
        ----------
        other : Response
        over : {"time", "space"}
            Correlate the series of each vertex, or the pattern of each second over the cortex
            (and subcortex).

        Returns
        -------
        DataArray (vertex,) or (time,), float32
            NaN in the medial wall, and where one of the two does not vary.

        Raises
        ------
        InputError
            If the other's space is another (its parcels, its voxels, their order), or no second
            is in both.
        """
        space = self.space
        if other.space.name != space.name or other.space.size != space.size:
            raise InputError(
                f"a response in {other.space.name} ({other.space.size} values) cannot be compared "
                f"with one in {space.name} ({space.size})"
            )
        if other.space != space:
            what = "parcels" if space.parcels else "voxels"
            raise InputError(
                f"the values of the two responses in {space.name} are of different {what}, or of "
                f"the same in another order; responses to the same {what} can be compared"
            )
        ours, mine, theirs = np.intersect1d(
            self.data["time"].values, other.data["time"].values, return_indices=True
        )
        if not len(ours):
            raise InputError("the two responses have no second in common")
        a, b = (
            part.data.values if len(ours) == part.data.sizes["time"] else part.data.values[index]
            for part, index in ((self, mine), (other, theirs))
        )
        if over == "time":
            return self._map(correlation_over_time(a, b), "similarity", "Pearson correlation")
        if over != "space":
            raise InputError(f"over={over!r} is unknown; known: time, space")
        found = correlation_over_space(a, b, cortex_mask(space))
        rows = self.data[{"time": mine, "vertex": 0}].drop_vars(
            [name for name, one in self.data.coords.items() if one.dims == ("vertex",)]
        )
        return rows.copy(data=found.astype(np.float32)).assign_attrs(unit="Pearson correlation")

    def peak(self, *, absolute: bool = False) -> Peak:
        """The largest value outside the medial wall, or the one furthest from 0."""
        return find_peak(self.data, self.space, absolute=absolute)

    def telling_rows(self, count: int) -> list[int]:
        """Rows whose patterns are strong and unlike each other (`summaries.telling_rows`)."""
        return telling_rows(self.data.values, self.space, count)

    def _map(self, values: np.ndarray, name: str, unit: str | None = None) -> xr.DataArray:
        """A value a vertex, with this response's space; NaN in the medial wall."""
        values = np.where(cortex_mask(self.space), values, np.nan).astype(np.float32)
        found = self.data[{"time": 0}].drop_vars(["time", "bold_time", "stimulus"])
        return found.copy(data=values).rename(name).assign_attrs(unit=unit or UNIT)

    def save(self, directory: str | Path, name: str | None = None, **options: Any) -> Path:
        """Write the response to a folder (`tribrain.brain.export.save_response`).

        The files are named after the stimulus unless `name` is given.
        """
        from tribrain.brain.export import save_response

        name = name or self.provenance.get("stimulus", {}).get("name") or "response"
        return save_response(self, Path(directory), name, **options)
