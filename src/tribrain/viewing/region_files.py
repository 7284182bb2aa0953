"""The table of regions that `tribrain regions` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tribrain
from tribrain.brain.atlas_places import KNOWN
from tribrain.brain.atlases import groups_table
from tribrain.errors import InputError
from tribrain.files import whole_file


def printed_regions(
    response: Path, atlas: str, *, top: int = 20, out: Path | None = None, **options: Any
) -> str:
    """The table of regions of a saved response, as text; written whole to `out` if given.

    Parameters
    ----------
    response : Path
        As `tribrain.load_response` takes it.
    atlas : str
    top : int
        Rows to print; 0 for all.
    out : Path, optional
        A .tsv file.
    **options
        As `tribrain.brain.region_tables.region_table` takes them.
    """
    if top < 0:
        raise InputError(f"--top {top}: 0 (all) or more fits")
    if out is not None and out.suffix != ".tsv":
        raise InputError(f"--out {out.name}: a name that ends in .tsv fits")
    table = tribrain.load_response(response).region_table(atlas, **options)
    if out is not None:
        with whole_file(out) as file:
            text = table.to_csv(sep="\t", index=False, float_format="%.6g", na_rep="n/a")
            file.write(text.encode())
    shown = table.head(top) if top else table
    lines = shown.to_string(
        index=False,
        formatters={
            "mean": "{:.3f}".format,
            "peak": "{:.3f}".format,
            "peak_time_s": "{:g}".format,
            "peak_bold_time_s": "{:g}".format,
            "share": "{:.1%}".format,
        },
    ).splitlines()
    if len(shown) < len(table):
        lines.append(f"{len(shown)} of {len(table)} regions; --top 0 shows all")
    if out is not None:
        lines.append(f"written to {out}")
    return "\n".join(lines)


def listed(atlas: str | None) -> str:
    """Every atlas that has a name, a line each; or the groups of regions and who has them."""
    if atlas is None:
        return "\n".join(f"{name}  {known.source}; {known.get}" for name, known in KNOWN.items())
    table = groups_table()
    return "\n".join(
        f"{group}  {', '.join(dict.fromkeys(rows['atlas']))}"
        for group, rows in table.groupby("group", sort=False)
    )
