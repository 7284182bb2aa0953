"""Settings of a training run, read from a recipe file and checked before anything starts."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from tribrain.errors import InputError
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.recipe import recipe_from_table as feature_recipe
from tribrain.files import require_file
from tribrain.training.losses import LOSSES

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_SEEDS = 2**63  # what torch takes
OPTIMISERS = ("adamw", "adam")
SCHEDULES = ("one_cycle", "cosine", "constant")
PARALLEL = ("ddp", "fsdp")


@dataclass(frozen=True)
class DataSettings:
    """What is trained on.

    Attributes
    ----------
    studies : tuple of str
        Folders of prepared studies.
    validation, test : float
        Shares of the time that are drawn for them, by groups.
    validation_groups, test_groups : tuple of str
        Groups that are put there by name.
    held_out : tuple of str
        People who are never trained on.
    hours : float
        Of the training side that are trained on, over all people, drawn by ``training.seed``; 0
        for all (`tribrain.training.subsets.fewer_hours`).
    subjects : int
        People of the training side who are trained on, drawn likewise; 0 for all.
    seed : int
        Of the split.
    standardise : bool
        z-score the BOLD over the rows of each span.
    mean_of_people : bool
        Train on the mean of people who were shown the same, then give each a row in closed form
        (`tribrain.training.mean_of_people`). Validation is by the row of people never seen. Takes
        no teacher, and no ``subject_dropout`` or ``expected_subjects`` of ``[training]``.
    length : int
        Seconds of a window.
    step : int
        Seconds from one window of an epoch to the next.
    lag : float
        Seconds by which the BOLD is read late.
    fading : float
        Dimension k (from 1) of every feature is multiplied by ``k ** -fading``: what whitened
        components have lost of their order of importance. 0 changes nothing. A model that is
        saved does so itself.
    weights : mapping of str to float
        Of studies in the loss, by name; 1 where nothing is said.
    """

    studies: tuple[str, ...] = ()
    validation: float = 0.1
    test: float = 0.0
    validation_groups: tuple[str, ...] = ()
    test_groups: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    hours: float = 0.0
    subjects: int = 0
    seed: int = 0
    standardise: bool = False
    mean_of_people: bool = False
    length: int = 100
    step: int = 100
    lag: float = 5.0
    fading: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_range("data", self, 1, math.inf, ("length", "step"))
        _check_range("data", self, 0, math.inf, ("lag", "fading", "hours", "subjects"))
        _check_range("data", self, 0, _SEEDS, ("seed",))
        _check_range("data", self, 0, 1, ("validation", "test"))


@dataclass(frozen=True)
class TrainingSettings:
    """How it is trained.

    Attributes
    ----------
    epochs : int
    batch : int
        Windows.
    accumulate : int
        Batches to a step.
    loss : str
    optimiser, schedule : str
    rate : float
        Largest learning rate.
    decay : float
        Weight decay.
    warm_up : float
        Share of the steps in which the rate rises.
    clip : float
        Largest norm of the gradient; 0 for none.
    average : float
        Decay of the running mean of the weights that is validated and saved; 0 for none.
    modality_dropout, subject_dropout, time_dropout : float
        Probability that a modality of a window is left out (never all), that a window is
        predicted by the row of people never seen, and that a sample of features is zero.
    expected_subjects : bool
        Instead of drawing, add both losses weighted by that probability; not with a teacher.
    patience : int
        Epochs without a better validation after which it ends; 0 never ends early.
    refit : bool
        Train again on training and validation together for the length found.
    teacher : str
        Folder of a model, such as an ensemble, whose predictions are learned; empty for none.
    teacher_share : float
        Of its predictions in what is learned, 0 to 1; the rest is the BOLD.
    own_penalty : float
        With ``data.mean_of_people``: by which the row of a person is kept near that of people never
        seen, in mean squares of the encoder's states.
    seed : int
    precision : {"fp32", "bf16"}
    compile : bool
    parallel : {"ddp", "fsdp"}
        Whether each of several processes (torchrun) has all weights, or a part of them.
    """

    epochs: int = 15
    batch: int = 8
    accumulate: int = 1
    loss: str = "mse"
    optimiser: str = "adamw"
    schedule: str = "one_cycle"
    rate: float = 1e-4
    decay: float = 0.0
    warm_up: float = 0.1
    clip: float = 1.0
    average: float = 0.0
    modality_dropout: float = 0.2
    subject_dropout: float = 0.1
    expected_subjects: bool = False
    time_dropout: float = 0.0
    patience: int = 0
    refit: bool = False
    teacher: str = ""
    teacher_share: float = 0.5
    own_penalty: float = 1500.0
    seed: int = 0
    precision: str = "fp32"
    compile: bool = False
    parallel: str = "ddp"

    def __post_init__(self) -> None:
        for name, known in (
            ("loss", LOSSES),
            ("optimiser", OPTIMISERS),
            ("schedule", SCHEDULES),
            ("precision", ("fp32", "bf16")),
            ("parallel", PARALLEL),
        ):
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise InputError(f"training.{name} {value!r} is unknown; known: {', '.join(known)}")
        _check_range("training", self, 1, math.inf, ("epochs", "batch", "accumulate"))
        _check_range("training", self, 0, math.inf, ("decay", "clip", "patience", "own_penalty"))
        _check_range("training", self, 0, _SEEDS, ("seed",))
        shares = ("warm_up", "average", "modality_dropout", "subject_dropout", "time_dropout")
        _check_range("training", self, 0, 1, shares)
        if not 0 <= self.teacher_share <= 1:
            raise InputError(f"training.teacher_share is {self.teacher_share!r}; 0 to 1 fits")
        if not 0 < self.rate < math.inf:
            raise InputError(f"training.rate is {self.rate:g}; more than 0 fits")


def _check_range(
    section: str, settings: object, least: float, below: float, names: Iterable[str]
) -> None:
    """Refuse what is less than `least`, not less than `below`, or not finite."""
    for name in names:
        value = getattr(settings, name)
        if not least <= value < below:
            fits = f"{least} or more" if below == math.inf else f"{least} to under {below}"
            raise InputError(f"{section}.{name} is {value!r}; {fits} fits")


@dataclass(frozen=True)
class TrainingRecipe:
    """A whole recipe: data, features, encoder, training.

    ``encoder`` holds arguments of `tribrain.encoder.network.Encoder` that the data do not decide;
    of ``features``, stimuli that are feature series already read ``frequency`` alone.
    """

    data: DataSettings = field(default_factory=DataSettings)
    features: FeatureRecipe = field(default_factory=FeatureRecipe)
    encoder: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def as_table(self) -> dict[str, Any]:
        """As plain data."""
        return dataclasses.asdict(self) | {"encoder": dict(self.encoder)}


def check_together(recipe: TrainingRecipe) -> None:
    """Refuse settings that another one would leave without effect.

    Raises
    ------
    InputError
        A teacher, `expected_subjects`, or a `subject_dropout` other than 0 and the default, with
        `mean_of_people`, whose windows are all of people never seen; `expected_subjects` with a
        teacher, whose predictions differ between the rows, so that one is drawn.
    """
    settings = recipe.training
    if recipe.data.mean_of_people:
        if settings.teacher:
            raise InputError(
                "data.mean_of_people takes no teacher, whose predictions are those for each "
                "person; leave out one of them"
            )
        for name, fits in (
            ("expected_subjects", (False,)),
            ("subject_dropout", (0.0, TrainingSettings.subject_dropout)),
        ):
            if getattr(settings, name) not in fits:
                raise InputError(
                    f"training.{name} has no effect with data.mean_of_people, which trains on no "
                    f"person's row; leave it out, or --set training.{name}={str(fits[0]).lower()}"
                )
    if settings.teacher and settings.expected_subjects:
        raise InputError(
            "training.expected_subjects does not go with a teacher, whose windows are drawn for "
            "people never seen; --set training.expected_subjects=false"
        )


ENCODER = {
    "hidden": int,
    "depth": int,
    "heads": int,
    "widening": int,
    "max_samples": int,
    "rank": int,
    "dropout": float,
    "layer_aggregation": str,
    "modality_aggregation": str,
    "projector_norm": bool,
    "combiner_norm": bool,
    "projector_bias": bool,
    "combiner_bias": bool,
    "projector_sizes": tuple[int, ...],
    "combiner_sizes": tuple[int, ...],
    "smoothing": int,
    "position_embedding": bool,
}
"""Settings of the encoder that a recipe may have."""
_JOINED = {"layer_aggregation": ("cat", "mean"), "modality_aggregation": ("cat", "sum")}
_MAY_BE_ZERO = ("depth", "rank", "smoothing")  # no block; no low rank; no smoothing


def read_recipe(name: str | Path, changes: Iterable[str] = ()) -> TrainingRecipe:
    """Read a recipe.

    Parameters
    ----------
    name : str or path
        A recipe that comes with the package, or a .toml file.
    changes : iterable of str
        ``SECTION.KEY=VALUE``, each a value as TOML writes it, or a text.

    Raises
    ------
    InputError
        An unknown recipe, section or key, which names the valid ones; a value of a wrong kind.
    """
    path = Path(str(name))
    if path.suffix == ".toml":
        try:
            text = require_file(path, "recipe").read_text("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"recipe {path} is not UTF-8 text") from None
    else:
        folder = files("tribrain") / "recipes"
        known = sorted(
            entry.name.removesuffix(".toml")
            for entry in folder.iterdir()
            if entry.name.endswith(".toml")
        )
        if str(name) not in known:
            told = ", ".join([*known, "or a file (.toml)"])
            raise InputError(f"recipe {str(name)!r} is unknown; known: {told}")
        text = (folder / f"{name}.toml").read_text("utf-8")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {name}: {error}") from None
    for change in changes:
        _change(table, change)
    return recipe_from_table(table)


def recipe_from_table(table: Mapping[str, Any]) -> TrainingRecipe:
    """A recipe from plain data, every key checked."""
    hints = get_type_hints(TrainingRecipe)
    _known_keys("section", table, hints)
    parts: dict[str, Any] = {}
    for section, values in table.items():
        if not isinstance(values, Mapping):
            raise InputError(f"{section} is a section of the recipe; a table fits")
        if section == "features":
            parts[section] = feature_recipe(dict(values), "[features]")
            continue
        if section == "encoder":
            _known_keys("encoder setting", values, ENCODER)
            parts[section] = {
                key: _encoder_setting(key, _fitting(f"encoder.{key}", value, ENCODER[key]))
                for key, value in values.items()
            }
            continue
        kinds = get_type_hints(hints[section])
        _known_keys(f"{section} setting", values, kinds)
        parts[section] = hints[section](
            **{
                key: _fitting(f"{section}.{key}", value, kinds[key])
                for key, value in values.items()
            }
        )
    return TrainingRecipe(**parts)


def _known_keys(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for key in given:
        if key not in known:
            raise InputError(f"{what} {key!r} is unknown; known: {', '.join(known)}")


def _fitting(what: str, value: Any, kind: Any) -> Any:
    """A value of a recipe, as its field takes it."""
    if get_origin(kind) is Mapping:
        if not isinstance(value, Mapping):
            raise InputError(f"{what} is {value!r}; a table fits")
        return {
            key: _fitting(f"{what}.{key}", one, get_args(kind)[1]) for key, one in value.items()
        }
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{what} is {value!r}; a list fits")
        return tuple(_fitting(what, one, get_args(kind)[0]) for one in value)
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"{what} is too large") from None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{what} is {value!r}; {_KINDS[kind]} fits")
    return value


def _encoder_setting(name: str, value: Any) -> Any:
    """A setting of the encoder, if its value can be one."""
    numbers = value if isinstance(value, tuple) else (value,)
    if name in _JOINED and value not in _JOINED[name]:
        known = ", ".join(_JOINED[name])
        raise InputError(f"encoder.{name} {value!r} is unknown; known: {known}")
    if name == "dropout" and not 0 <= value < 1:
        raise InputError(f"encoder.dropout is {value!r}; 0 to under 1 fits")
    least = 0 if name in _MAY_BE_ZERO else 1
    if ENCODER[name] in (int, tuple[int, ...]) and min(numbers, default=least) < least:
        raise InputError(f"encoder.{name} is {value!r}; {least} or more fits")
    return value


def _change(table: dict[str, Any], change: str) -> None:
    place, equals, text = change.partition("=")
    *tables, key = (part.strip() for part in place.split("."))
    if not equals or not tables or not all((*tables, key)):
        raise InputError(f"--set {change!r}: SECTION.KEY=VALUE fits")
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        found = {}
    value = found["value"] if list(found) == ["value"] else text.strip()
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {change!r}: {name} has no settings")
    table[key] = value
