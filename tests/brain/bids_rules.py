"""Rules of BIDS 1.11 for derivative files of functional MRI, as plain checks.

After https://bids-specification.readthedocs.io: the order of entities (schema rules/entities),
file names, "Imaging data types" and "Common data types" of derivatives, "Spatial references", and
the appendix "Coordinate systems". Surface series (.func.gii) and CIFTI-2 series have the names
that the specification's examples and fMRIPrep give them. ``boldmap`` and ``stat`` are of the
proposal for functional derivatives (BEP 12), not of the specification itself.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ORDER = (
    "sub tpl ses cohort sample task tracksys acq nuc voi ce trc stain rec dir run mod echo flip "
    "inv mt part proc hemi space split recording chunk atlas seg scale res den stat label prov desc"
).split()
NUMBERS = {"run", "echo", "flip", "inv", "split", "chunk"}
VOLUME = {".nii", ".nii.gz"}
EXTENSIONS = {
    "bold": VOLUME | {".func.gii", ".dtseries.nii"},
    "timeseries": {".tsv", ".ptseries.nii"},
    "boldmap": VOLUME | {".func.gii", ".dscalar.nii", ".pscalar.nii"},
    "mask": VOLUME | {".label.gii"},
    "dseg": VOLUME | {".label.gii", ".dlabel.nii", ".tsv"},
    "probseg": VOLUME,
}
TEMPLATES = {
    *("ICBM452AirSpace", "ICBM452Warp5Space", "IXI549Space", "fsaverage", "fsaverageSym", "fsLR"),
    *("MNIColin27", "MNI152Lin", "MNI152NLin6Sym", "MNI152NLin6ASym", "MNI305", "NIHPD"),
    *(f"MNI152NLin2009{kind}{sym}" for kind in "abc" for sym in ("Sym", "Asym")),
    *("OASIS30AntsOASISAnts", "OASIS30Atropos", "Talairach", "UNCInfant"),
}
"""Standard template identifiers; MNI152NLin6ASym is spelt so there."""
OTHER_SPACES = {
    *("fsaverage3", "fsaverage4", "fsaverage5", "fsaverage6", "fsaveragesym"),  # deprecated
    *("MNI152NLin6Asym", "individual", "study"),
}


def assert_bids(path: str | Path) -> dict[str, str]:
    """Check a file's name and its JSON sidecar; returns the entities."""
    path = Path(path)
    stem, _, extension = path.name.partition(".")
    extension = f".{extension}"
    *parts, suffix = stem.split("_")
    pairs = [part.partition("-")[::2] for part in parts]
    entities = dict(pairs)
    keys = [key for key, _ in pairs]
    assert path.name.isascii(), path.name
    assert set(keys) <= set(ORDER), f"unknown entity in {path.name}"
    assert keys == sorted(set(keys), key=ORDER.index), f"order of entities in {path.name}"
    assert keys[0] == "sub", f"{path.name} does not begin with sub-"
    for key, label in pairs:
        fits = r"[0-9]+" if key in NUMBERS else r"[0-9a-zA-Z+]+"
        assert re.fullmatch(fits, label), f"{key}-{label} in {path.name}"
    assert suffix in EXTENSIONS, f"suffix {suffix}"
    assert extension in EXTENSIONS[suffix] | {".json"}, f"{suffix}{extension}"
    if suffix in ("bold", "boldmap", "timeseries"):
        assert "task" in entities, f"{path.name} has no task"
    if extension != ".json":
        _check_extension(path.name, extension, entities)
        _check_sidecar(path, extension, suffix, entities)
    return entities


def _check_extension(name: str, extension: str, entities: dict[str, str]) -> None:
    surface = extension.endswith(".gii")
    cifti = extension.endswith(".nii") and extension != ".nii"
    if surface:  # REQUIRED where a file is restricted to a hemisphere
        assert entities.get("hemi") in ("L", "R"), f"hemi of {name}"
    elif extension != ".tsv":
        assert "hemi" not in entities, f"{name} holds both hemispheres"
    if "space" in entities:
        assert entities["space"] in TEMPLATES | OTHER_SPACES, f"space of {name}"
    assert not (surface and "res" in entities), f"res of a surface: {name}"
    assert not (extension in VOLUME and "den" in entities), f"den of a volume: {name}"
    assert cifti or not {"res", "den"} <= entities.keys(), f"both res and den: {name}"


def _check_sidecar(path: Path, extension: str, suffix: str, entities: dict[str, str]) -> None:
    file = path.with_name(path.name.removesuffix(extension) + ".json")
    assert file.is_file(), f"{path.name} has no JSON file"
    fields = json.loads(file.read_text("utf-8"), parse_constant=_refuse)
    if suffix in ("bold", "timeseries"):
        rate = "SamplingFrequency" if extension == ".tsv" else "RepetitionTime"
        assert isinstance(fields[rate], float | int)
        assert fields[rate] > 0
    if suffix == "bold":
        assert isinstance(fields["TaskName"], str)
        assert fields["TaskName"]
    if extension in VOLUME and suffix not in ("mask", "dseg", "probseg"):
        assert isinstance(fields["SkullStripped"], bool)
    for entity, field in (("res", "Resolution"), ("den", "Density")):
        if entity in entities:
            assert isinstance(fields.get(field), str), f"{field} of {path.name}"
    if "space" in entities and entities["space"] not in TEMPLATES:
        assert "SpatialReference" in fields, f"SpatialReference of {path.name}"
    if "SpatialReference" in fields:
        reference = fields["SpatialReference"]
        for uri in reference.values() if isinstance(reference, dict) else [reference]:
            assert uri == "orig" or re.fullmatch(r"(https?://|bids:)\S+", uri), uri
        if extension.endswith(".gii"):
            assert isinstance(reference, str), "a single reference is a single string"
    for field in ("Description", "Units"):
        assert isinstance(fields.get(field, ""), str)
    sources = fields.get("Sources", [])
    assert isinstance(sources, list)
    assert all(isinstance(source, str) for source in sources)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
