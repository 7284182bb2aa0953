"""A predicted response: time by vertex, with its clock, its space and what made it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.regions import region_vertices
from tribrain.brain.spaces import HEMISPHERES, Space, find_space, medial_wall, surface
from tribrain.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from nilearn.surface import SurfaceImage

UNIT = "z-scored BOLD signal, no absolute amplitude"
ATLASES = ("textbook",)


@dataclass(frozen=True, eq=False)
class Response:
    """The response of a brain to a stimulus, one row a second.

    Attributes
    ----------
    data : xarray.DataArray (time, vertex), float32
        Coordinates: ``time`` (s of stimulus, start of the row), ``bold_time`` (time + lag: when
        the scanner would see it), ``stimulus`` (False where no event falls). Attributes: space,
        unit, lag, model, revision, subject, modalities, licence, label.
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
        space: str | None,
        attrs: dict[str, Any],
        provenance: dict[str, Any],
    ) -> Response:
        """Make a response from one row a second (rows, outputs), from 0 s on."""
        import xarray as xr

        found = find_space(space, rows.shape[1])
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
        if found.is_surface:
            side = np.repeat(HEMISPHERES, [found.n_left, found.n_right])
            data = data.assign_coords(hemisphere=("vertex", side))
        return cls(data, provenance)

    @property
    def space(self) -> Space:
        return find_space(self.data.attrs["space"], self.data.sizes["vertex"])

    def to_surface_image(self) -> SurfaceImage:
        """The response as a nilearn surface image (vertices by time), on the pial mesh.

        Raises
        ------
        InputError
            If the space is no surface.
        """
        from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

        space = self._surface_space()
        meshes = {
            side: InMemoryMesh(*(part.copy() for part in surface(space.name, side, "pial")))
            for side in HEMISPHERES
        }
        values = {side: self.data.values[:, space.slice(side)].T for side in HEMISPHERES}
        return SurfaceImage(mesh=PolyMesh(**meshes), data=values)

    def regions(self, atlas: str = "textbook") -> pd.DataFrame:
        """Mean response of each region, over its vertices outside the medial wall.

        Parameters
        ----------
        atlas : {"textbook"}

        Returns
        -------
        DataFrame (time, region)
        """
        import pandas as pd

        if atlas not in ATLASES:
            raise InputError(f"atlas {atlas!r} is unknown; known: {', '.join(ATLASES)}")
        vertices = region_vertices(self._surface_space())
        values = {name: self.data.values[:, index].mean(1) for name, index in vertices.items()}
        return pd.DataFrame(values, index=pd.Index(self.data["time"].values, name="time"))

    def telling_rows(self, count: int) -> list[int]:
        """Rows whose patterns over the cortex are strong and unlike each other, in order of time.

        The strongest row first, then each time the row with the most that the rows before it do
        not explain (a pivoted Gram-Schmidt), as long as that is a tenth of the strongest one or
        more. The medial wall does not count.
        """
        left = self.data.values.astype(float)
        if self.space.is_surface:
            left = left[:, ~medial_wall(self.space.name)]
        chosen: list[int] = []
        strongest = 0.0
        for _ in range(min(count, len(left))):
            norms = np.linalg.norm(left, axis=1)
            norms[chosen] = -1.0
            row = int(norms.argmax())
            if chosen and norms[row] < strongest / 10:
                break
            strongest = float(norms[row]) if not chosen else strongest
            chosen.append(row)
            direction = left[row] / max(float(norms[row]), 1e-12)
            left = left - np.outer(left @ direction, direction)
        return sorted(chosen)

    def save(self, directory: str | Path, name: str | None = None, **options: Any) -> Path:
        """Write the response to a folder (`tribrain.brain.export.save_response`).

        The files are named after the stimulus unless `name` is given.
        """
        from tribrain.brain.export import save_response

        name = name or self.provenance.get("stimulus", {}).get("name") or "response"
        return save_response(self, Path(directory), name, **options)

    def _surface_space(self) -> Space:
        if not self.space.is_surface:
            raise InputError(f"a response in {self.space.name} has no surface")
        return self.space
