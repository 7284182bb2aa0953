"""Models by name: the built-in one, published ones, folders."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

from tribrain.encoder.accuracy import FILE as ACCURACY
from tribrain.encoder.accuracy import accuracy_of, attach_accuracy
from tribrain.encoder.adapters import is_adapter, load_adapter
from tribrain.encoder.checkpoints import load_folder, save_folder
from tribrain.encoder.ensemble_files import is_ensemble, load_ensemble
from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.predict import TrainedModel
from tribrain.encoder.textbook import TextbookModel
from tribrain.errors import InputError, InputWarning
from tribrain.features.backbones import pick_device, pick_precision
from tribrain.features.store import Store
from tribrain.hub import fetch

_MODELS = ("model.json", "config.yaml", "ensemble.json", "adapter.json")
"""Files of which a folder with a model has one."""
NON_COMMERCIAL = "CC BY-NC 4.0 (not for commercial use)"

PUBLISHED = {
    "facebook/tribev2": "TRIBE v2: fsaverage5 cortex; V-JEPA 2 giant, w2v-BERT 2.0, Llama 3.2 3B",
    "facebook/tribev2-mini": "TRIBE v2 with small backbones: V-JEPA 2 large, Qwen3 0.6B",
    "facebook/tribev2-subcortical": "TRIBE v2 for 8,802 subcortical voxels",
}
"""Models on the Hugging Face hub in the published format, all of them `NON_COMMERCIAL`."""


def load_model(
    name: str | Path = "textbook",
    *,
    revision: str | None = None,
    backbones: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    exact_context: bool = False,
    cache: str | Path | bool = True,
) -> TextbookModel | TrainedModel | EnsembleModel:
    """Load a model.

    Parameters
    ----------
    name : str or path
        ``textbook`` (the built-in model, not trained on data); a folder with an ensemble, an
        adapter, or a checkpoint in our own or in the published format; or a repository on the
        Hugging Face hub such as ``facebook/tribev2``, with ``@REVISION`` to pin a revision.
    revision : str, optional
        Branch, tag or commit of the repository.
    backbones : path, optional
        Folder with one Hugging Face folder a backbone, looked at before the hub.
    device : {"auto", "cpu", "cuda", "mps"}
    precision : {"auto", "fp32", "bf16", "fp16"}
        Number format that the backbones compute in; "auto" is the fastest the device is good at,
        single precision on a CPU.
    exact_context : bool
        Give each word beyond the limit of its context a pass of its own, as published, instead of
        a little more context that it shares.
    cache : path or bool
        Folder where features are kept between runs; True for the usual one, False for none.

    Returns
    -------
    TextbookModel, TrainedModel or EnsembleModel
        All have ``extract(stimulus)`` and ``predict(stimulus)``, and ``accuracy``: how well each
        output is predicted (`tribrain.encoder.accuracy`), or None where that is not known.

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
    model, folder = open_model(
        name,
        revision=revision,
        backbones=backbones,
        device=device,
        precision=precision,
        exact_context=exact_context,
        cache=cache,
    )
    found = accuracy_of(model, folder) if folder is not None else None
    if found is not None and not isinstance(model, TextbookModel):
        model.accuracy = found
    return model


def open_model(
    name: str | Path,
    *,
    revision: str | None = None,
    backbones: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    exact_context: bool = False,
    cache: str | Path | bool = True,
) -> tuple[TextbookModel | TrainedModel | EnsembleModel, Path | None]:
    """`load_model` without the map of accuracy in the model's folder, and that folder.

    Returns
    -------
    model : TextbookModel, TrainedModel or EnsembleModel
    folder : Path or None
        None of the textbook model, which has none.
    """
    device = pick_device(device)
    pick_precision(precision, device)
    store = Store(None if cache is True else cache) if cache is not False else None
    folder, licence = Path(name), None
    if not str(name):
        raise InputError("the name of a model is empty")
    if str(name) not in ("textbook", *PUBLISHED):
        folder = Path(model_folder(name))
    # A known name is that model, whatever lies in the working directory; ./NAME is the folder.
    if folder.is_dir() and str(name) not in ("textbook", *PUBLISHED):
        if revision is not None:
            raise InputError(f"{folder} is a folder; a revision is for models on the hub")
        load = partial(
            load_model,
            backbones=backbones,
            device=device,
            precision=precision,
            exact_context=exact_context,
            cache=cache,
        )
        if is_ensemble(folder):
            return load_ensemble(folder, load), folder
        if is_adapter(folder):
            return load_adapter(folder, load), folder
        card, encoder = load_folder(folder)
    else:
        repository, _, pinned = str(name).partition("@")
        if revision and pinned and revision != pinned:
            raise InputError(f"{name} and revision {revision!r} name two revisions; give one")
        revision = revision or pinned or None
        if repository == "textbook":
            if revision is not None:
                raise InputError("the textbook model is built in and has no revisions")
            return TextbookModel(store), None
        folder = _fetch(repository, revision)
        if repository in PUBLISHED:
            licence = NON_COMMERCIAL
        card, encoder = load_folder(folder, name=repository, revision=folder.name, licence=licence)
    if "CC BY-NC" in card.licence:
        warnings.warn(f"licence of {card.name}: {card.licence}", InputWarning, stacklevel=3)
    if exact_context:
        card = replace(card, recipe=replace(card.recipe, exact_context=True))
    model = TrainedModel(
        card, encoder, backbones=backbones, device=device, precision=precision, store=store
    )
    return model, folder


def model_folder(place: str | Path) -> str | Path:
    """The model in a run folder, the average in one of several seeds; anything else as it is.

    Raises
    ------
    InputError
        A run that is not done.
    """
    folder = Path(place)
    if any((folder / file).is_file() for file in _MODELS):
        return place
    for part in ("model", "ensemble"):
        if any((folder / part / file).is_file() for file in _MODELS):
            return folder / part
    if (folder / "recipe.toml").is_file():
        raise InputError(f"the run in {folder} is not done; go on with it by train --resume")
    return place


def convert_model(name: str | Path, folder: Path) -> None:
    """Write a trained model in our own format (`checkpoints.save_folder`), its accuracy beside it.

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
    if isinstance(model, EnsembleModel):
        raise InputError(f"{name} is an ensemble; convert its members one by one")
    save_folder(model.card, model.encoder, folder)
    if model.accuracy is not None:
        attach_accuracy(folder, model.accuracy)


def _fetch(repository: str, revision: str | None) -> Path:
    """Folder of a model on the hub, named by its commit; only a checkpoint's files are fetched."""
    known = f"give a folder, or one of: {', '.join(['textbook', *PUBLISHED])}"
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise InputError(f"no model {repository!r}; {known}")
    try:
        return fetch(
            repository,
            revision,
            ["config.yaml", "best.ckpt", "model.json", "model.safetensors", ACCURACY],
        )
    except InputError as error:
        raise InputError(f"model {repository}: {error}; {known}") from None
