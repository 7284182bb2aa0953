"""Models by name: the built-in one, published ones, folders."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from tribrain.encoder.checkpoints import load_folder, save_folder
from tribrain.encoder.predict import TrainedModel
from tribrain.encoder.textbook import TextbookModel
from tribrain.errors import InputError, InputWarning
from tribrain.hub import fetch

NON_COMMERCIAL = "CC BY-NC 4.0 (not for commercial use)"

PUBLISHED = {
    "facebook/tribev2": "TRIBE v2: fsaverage5 cortex; V-JEPA 2 giant, w2v-BERT 2.0, Llama 3.2 3B",
    "facebook/tribev2-mini": "TRIBE v2 with small backbones: V-JEPA 2 large, Qwen3 0.6B",
    "facebook/tribev2-subcortical": "TRIBE v2 for 8,802 subcortical voxels",
}
"""Models on the Hugging Face hub in the published format, all of them `NON_COMMERCIAL`."""

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(device: str) -> str:
    """The device to compute on: "auto" is a CUDA GPU, else an Apple GPU, else the CPU."""
    if device not in DEVICES:
        raise InputError(f"device {device!r} is unknown; known: {', '.join(DEVICES)}")
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, present in there.items() if present)
    if not there[device]:
        usable = ", ".join(name for name, present in there.items() if present)
        raise InputError(f"device {device} is not there; usable here: {usable}")
    return device


def load_model(
    name: str | Path = "textbook",
    *,
    revision: str | None = None,
    backbones: str | Path | None = None,
    device: str = "auto",
) -> TextbookModel | TrainedModel:
    """Load a model.

    Parameters
    ----------
    name : str or path
        ``textbook`` (the built-in model, not trained on data); a folder with a checkpoint in our
        own or in the published format; or a repository on the Hugging Face hub such as
        ``facebook/tribev2``, with ``@REVISION`` to pin a revision.
    revision : str, optional
        Branch, tag or commit of the repository.
    backbones : path, optional
        Folder with one Hugging Face folder a backbone, looked at before the hub.
    device : {"auto", "cpu", "cuda", "mps"}

    Returns
    -------
    TextbookModel or TrainedModel
        Both have ``extract(stimulus)`` and ``predict(stimulus)``.

    Raises
    ------
    InputError
        A name that is no model, a damaged checkpoint, a hub that cannot be reached.

    Examples
    --------
    >>> model = load_model("textbook")
    >>> model.modalities
    ('text', 'audio', 'video')
    """
    device = pick_device(device)
    folder, licence = Path(name), None
    if not str(name):
        raise InputError("the name of a model is empty")
    # A known name is that model, whatever lies in the working directory; ./NAME is the folder.
    if folder.is_dir() and str(name) not in ("textbook", *PUBLISHED):
        if revision is not None:
            raise InputError(f"{folder} is a folder; a revision is for models on the hub")
        card, encoder = load_folder(folder)
    else:
        repository, _, pinned = str(name).partition("@")
        if revision and pinned and revision != pinned:
            raise InputError(f"{name} and revision {revision!r} name two revisions; give one")
        revision = revision or pinned or None
        if repository == "textbook":
            if revision is not None:
                raise InputError("the textbook model is built in and has no revisions")
            return TextbookModel()
        folder = _fetch(repository, revision)
        if repository in PUBLISHED:
            licence = NON_COMMERCIAL
        card, encoder = load_folder(folder, name=repository, revision=folder.name, licence=licence)
    if "CC BY-NC" in card.licence:
        warnings.warn(f"licence of {card.name}: {card.licence}", InputWarning, stacklevel=2)
    return TrainedModel(card, encoder, backbones=backbones, device=device)


def convert_model(name: str | Path, folder: Path) -> None:
    """Write a trained model in our own format (`checkpoints.save_folder`).

    Raises
    ------
    InputError
        If `name` is no trained model, or `folder` is there already.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already; name a folder that is not")
    model = load_model(name, device="cpu")
    if isinstance(model, TextbookModel):
        raise InputError("the textbook model is built in; there is nothing to convert")
    save_folder(model.card, model.encoder, folder)


def _fetch(repository: str, revision: str | None) -> Path:
    """Folder of a model on the hub, named by its commit; only a checkpoint's files are fetched."""
    known = f"give a folder, or one of: {', '.join(['textbook', *PUBLISHED])}"
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise InputError(f"no model {repository!r}; {known}")
    try:
        return fetch(
            repository, revision, ["config.yaml", "best.ckpt", "model.json", "model.safetensors"]
        )
    except InputError as error:
        raise InputError(f"model {repository}: {error}; {known}") from None
