"""Volume templates: which one a NIfTI volume lies in, by what shows it and not by a guess."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np

from tribrain.brain.spaces import TEMPLATES, check_affine
from tribrain.errors import InputError, InputWarning
from tribrain.files import one_line

KNOWN_GRIDS: dict[tuple[int, int, int, float, float, float, float], str] = {
    (182, 218, 182, 1.0, -91.0, -126.0, -72.0): "MNI152NLin6Asym",
    (91, 109, 91, 2.0, -90.0, -126.0, -72.0): "MNI152NLin6Asym",
    (364, 436, 364, 0.5, -91.5, -126.0, -72.0): "MNI152NLin6Asym",
    (364, 436, 364, 0.5, -91.0, -126.0, -72.0): "MNI152NLin6Asym",
    (260, 311, 260, 0.7, -91.3, -126.0, -72.0): "MNI152NLin6Asym",
    (227, 272, 227, 0.8, -90.8, -126.0, -72.0): "MNI152NLin6Asym",
    (113, 136, 113, 1.6, -89.2, -126.0, -72.0): "MNI152NLin6Asym",
    (193, 229, 193, 1.0, -96.0, -132.0, -78.0): "MNI152NLin2009cAsym",
    (97, 115, 97, 2.0, -96.5, -132.5, -78.5): "MNI152NLin2009cAsym",
    (193, 229, 193, 1.0, -96.0, -132.0, -74.0): "MNI152NLin6Sym",
    (197, 233, 189, 1.0, -98.0, -134.0, -72.0): "MNI152NLin2009aSym",
    (99, 117, 95, 2.0, -98.0, -134.0, -72.0): "MNI152NLin2009aSym",
}
"""Templates by their own grids: shape, edge, centre of the first voxel (mm), with x to the right.

From TemplateFlow's ``template_description.json``, and 2009a from nilearn's template. The
asymmetric and the symmetric template of one release share their grids; the one in wider use for
fMRI is named. All lie in MNI152, and count as one in `tribrain.brain.meshes.to_template`.
"""

FAMILY = "MNI152"
"""What a volume is said to lie in where the template of the family is left open."""
REPRESENTATIVE = "MNI152NLin6Asym"
"""Stands for the family."""
_GENERIC = ("mni", "mni152")
_CODES = {0: "unknown", 1: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI152", 5: "template"}
# Brain of the MNI152 family, mm: left to right, back to front, bottom to top.
_BRAIN = np.array([[-72.0, -108.0, -70.0], [72.0, 76.0, 84.0]])


def volume_template(
    image: Any,
    path: str | Path | None = None,
    *,
    space: str | None = None,
    option: str = "space=",
) -> str:
    """Which template a volume lies in, by what shows it.

    What is looked at, in this order: `space`; ``space-`` (or ``tpl-``) in the file's name;
    ``SpatialReference`` or ``Space`` in the JSON file beside it; its grid, if it is exactly one of
    `KNOWN_GRIDS`; its header, where code 4 says MNI152. The header does not tell which template
    of the family: MNI152NLin6Asym stands for it then, with a warning (the family shares its
    millimetres, see `tribrain.brain.meshes.to_template`).

    Parameters
    ----------
    image : nibabel image
    path : path, optional
        Where it comes from; by default what the image says.
    space : str, optional
        What the user says: one of `TEMPLATES`. It overrules the header, not the name.
    option : str
        What the user says it by, for the messages.

    Returns
    -------
    str
        One of `TEMPLATES`.

    Raises
    ------
    InputError
        No affine or a damaged one, a volume away from the brain, statements that contradict each
        other, or nothing that shows the template. Names the templates.

    Warns
    -----
    InputWarning
        Where code 4 leaves open which template, and where `space` alone speaks against a header
        that says Talairach space, or a file's that says the scanner's.
    """
    file = path or image.get_filename()
    path = Path(file or "the volume")
    _check_place(image, path)
    said = _said(path, space, option)
    code = _code(image)
    by_grid = grid_template(image.shape[:3], image.affine)
    if code == 3 and space is None and (said or by_grid):
        where = "what is said of it" if said else "its grid"
        raise InputError(
            f"{path} lies in {said or by_grid} by {where} and in Talairach space by its header; "
            f"say which by {option}, one of {', '.join(TEMPLATES)}"
        )
    alone = space is not None and by_grid is None and next(_statements(path), None) is None
    # A scanner's code on an image made in memory says nothing of a file.
    if alone and (code == 3 or (code == 1 and file is not None)):
        warn(
            f"{path} is read as {said}, as {option} says; its header says {_CODES[code]} space "
            f"(code {code})",
            InputWarning,
            stacklevel=2,
        )
    if said not in (None, FAMILY):
        return str(said)
    if by_grid is not None:
        return by_grid
    if said is None and code != 4:
        raise InputError(
            f"{path} does not show which template it lies in: no space- in its name, no "
            f"SpatialReference beside it, header code {code} ({_CODES.get(code, 'unknown')}), a "
            f"grid of no template; say it by {option}, one of {', '.join(TEMPLATES)}"
        )
    if space is None:
        warn(
            f"{path} lies in MNI152, and in which template of that family is not said; it is read "
            f"as {REPRESENTATIVE}, which {option} changes",
            InputWarning,
            stacklevel=2,
        )
    return REPRESENTATIVE


def _said(path: Path, space: str | None, option: str) -> str | None:
    """The template that user, name and JSON file agree on, if any of them says one."""
    said = None if space is None else named_template(space)
    if space is not None and said is None:
        raise InputError(f"{option}{space!r} is unknown; known: {', '.join(TEMPLATES)}")
    for where, label in _statements(path):
        found = named_template(label)
        if found is None and said is not None and re.search(r"[/.]", label):
            continue  # an address that names no template does not speak against one
        if found is None or (said is not None and not templates_agree(said, found)):
            but = "which is none of the known ones" if said is None else f"not in {said}"
            raise InputError(
                f"{path} lies in {one_line(label)!r} by {where}, {but}; known: "
                f"{', '.join(TEMPLATES)}; take a volume in one of these, or mend what is wrong "
                f"(that, or {option})"
            )
        said = found if said in (None, FAMILY) else said
    return said


def _code(image: Any) -> int:
    """What the header says of the affine that is used: sform before qform."""
    from nibabel import Nifti1Header

    if not isinstance(image.header, Nifti1Header):
        return 0
    return int(image.header["sform_code"]) or int(image.header["qform_code"])


def named_template(label: str) -> str | None:
    """The template that a label or address names, `FAMILY` for the family, or None."""
    if label.lower() in _GENERIC:
        return FAMILY
    for template in TEMPLATES:
        if re.search(rf"(?<![A-Za-z0-9]){template}(?![A-Za-z0-9])", label, re.IGNORECASE):
            return template
    return None


def templates_agree(one: str, other: str) -> bool:
    """Whether both are the same, as far as they are said."""
    if FAMILY in (one, other):
        return one.startswith(FAMILY) and other.startswith(FAMILY)
    return one == other


def _statements(path: Path) -> Iterator[tuple[str, str]]:
    named = re.search(r"(?:^|_)(?:space|tpl)-([A-Za-z0-9+]+)", path.name)
    if named:
        yield "its name", named[1]
    fields = fields_beside(path)
    reference = fields.get("SpatialReference")
    if reference is None and named_template(str(fields.get("Space"))):  # or a mesh painted into it
        reference = fields["Space"]
    if isinstance(reference, dict):  # by structure; cortex beside a volume lies on a mesh
        reference = reference.get("VolumeReference", " ".join(map(str, reference.values())))
    if isinstance(reference, str) and reference:
        yield "the JSON file beside it", reference


def fields_beside(path: Path) -> dict[str, Any]:
    """What the JSON file beside a volume says; nothing if there is none."""
    beside = path.with_name(re.sub(r"\.nii(\.gz)?$", "", path.name) + ".json")
    if not beside.is_file():
        return {}
    try:
        fields = json.loads(beside.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{beside} cannot be read as JSON: {one_line(str(error))}") from None
    return fields if isinstance(fields, dict) else {}


def check_header(image: Any, name: str | Path) -> None:
    """Refuse an image whose header does not tell where its voxels lie.

    nibabel then makes an affine up, with x to the left, whatever way the voxels run.

    Raises
    ------
    InputError
        If the codes of sform and qform are 0, or the format (Analyze) has no affine.
    """
    from nibabel import Nifti1Header
    from nibabel.analyze import AnalyzeHeader

    header = image.header
    if not isinstance(header, AnalyzeHeader):
        return
    why = "it is of the Analyze format"
    if isinstance(header, Nifti1Header):
        if int(header["sform_code"]) or int(header["qform_code"]):
            return
        why = "sform and qform codes are 0"
    raise InputError(
        f"{name}: the header has no affine: {why}; left and right cannot be told, so give a NIfTI "
        "file whose sform or qform is set"
    )


def _check_place(image: Any, path: Path) -> None:
    """Refuse a damaged affine, and a volume of which less than half could hold brain."""
    if len(image.shape) < 3 or image.affine is None:
        raise InputError(f"{path} is no volume with an affine; three dimensions and one fit")
    check_header(image, path)
    try:
        check_affine(np.array(image.affine, float))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in image.shape[:3]])).reshape(3, -1).T
    corners = ends @ image.affine[:3, :3].T + image.affine[:3, 3]
    field = np.stack([corners.min(axis=0), corners.max(axis=0)])
    common = np.minimum(field[1], _BRAIN[1]) - np.maximum(field[0], _BRAIN[0])
    smaller = min(np.prod(field[1] - field[0]), np.prod(_BRAIN[1] - _BRAIN[0]))
    if (common <= 0).any() or np.prod(common) < 0.5 * smaller:
        spans = [f"{low:.0f} to {high:.0f}" for low, high in field.T]
        raise InputError(
            f"{path} lies away from the brain: its affine puts it at x {spans[0]}, y {spans[1]}, "
            f"z {spans[2]} mm; a template's brain is at x -72 to 72, y -108 to 76, z -70 to 84"
        )


def grid_template(shape: tuple[int, ...], affine: np.ndarray) -> str | None:
    """The template whose own grid this is, whichever way its axes run."""
    from nibabel.orientations import inv_ornt_aff, io_orientation

    if not np.isfinite(affine).all():
        return None
    turns = io_orientation(affine)
    if np.isnan(turns).any():
        return None
    upright = np.asarray(affine) @ inv_ornt_aff(turns, shape)
    sizes = [0, 0, 0]
    for axis, target in enumerate(turns[:, 0].astype(int)):
        sizes[target] = shape[axis]
    for (*known_shape, edge, x, y, z), template in KNOWN_GRIDS.items():
        wanted = np.diag([edge, edge, edge, 1.0])
        wanted[:3, 3] = x, y, z
        if sizes == known_shape and np.allclose(upright, wanted, atol=1e-3):
            return template
    return None
