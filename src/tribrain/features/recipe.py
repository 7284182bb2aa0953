"""Which features a model reads: backbones, layers, simple features, and their clock."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from tribrain.errors import InputError
from tribrain.files import require_file

AGGREGATIONS = ("group_mean", "mean", "none")
POOLINGS = ("mean", "first", "last")
MODALITIES = ("text", "audio", "video")


@dataclass(frozen=True)
class FeatureRecipe:
    """Settings of the features (published recipe, section 1).

    Attributes
    ----------
    backbones : dict
        Full name of the pretrained model of a modality (``text``, ``audio``, ``video``).
    simple : dict
        Names of simple features of a modality, which need no pretrained model. A modality has
        either.
    depths : tuple of float
        Relative depths in [0, 1], ascending.
    aggregation : {"group_mean", "mean", "none"}
        ``group_mean``: the mean of the states between one depth and the next, the last one
        included; ``mean``: one mean over the states at the depths; ``none``: those states.
    pooling : {"mean", "first", "last"}
        Of the tokens of a word, clip or picture: their mean, the first one (a picture's class
        token), or the last one (of a word).
    frequency : float
        Samples a second.
    clip_seconds : float
        Length of the film that a video vector sees.
    context_words : int
        Words of context that a word vector sees.
    context_stride : int
        Words beyond `context_words` that a context may hold, so that the words of a long text
        share passes.
    exact_context : bool
        Never more than `context_words`, at a pass for each word beyond them, as published.
    revisions : dict
        Branch, tag or commit of a modality's pretrained model on the hub; the newest by default.
    """

    backbones: dict[str, str] = field(default_factory=dict)
    simple: dict[str, tuple[str, ...]] = field(default_factory=dict)
    depths: tuple[float, ...] = (0.5, 0.75, 1.0)
    aggregation: str = "group_mean"
    pooling: str = "mean"
    frequency: float = 2.0
    clip_seconds: float = 4.0
    context_words: int = 1024
    context_stride: int = 512
    exact_context: bool = False
    revisions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))
        for name, features in self.simple.items():
            if isinstance(features, str) or not all(isinstance(one, str) for one in features):
                raise InputError(f"simple features of {name} must be a list of names")
        for name, backbone in self.backbones.items():
            if not isinstance(backbone, str):
                raise InputError(f"backbone {backbone!r} of {name} is no name")
        simple = {name: tuple(features) for name, features in self.simple.items()}
        object.__setattr__(self, "simple", simple)
        _known("layer aggregation", self.aggregation, AGGREGATIONS)
        _known("token pooling", self.pooling, POOLINGS)
        for name in (*self.backbones, *self.simple, *self.revisions):
            _known("modality", name, MODALITIES)
        both = sorted(set(self.backbones) & set(self.simple))
        if both:
            raise InputError(f"{both[0]} has a backbone and simple features; give one of them")
        if not self.depths or list(self.depths) != sorted(self.depths):
            raise InputError(f"layer depths {self.depths} must be ascending, one at least")
        if not all(0 <= depth <= 1 for depth in self.depths):
            raise InputError(f"layer depths {self.depths} must lie in [0, 1]")
        for name in ("frequency", "clip_seconds", "context_words", "context_stride"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} {getattr(self, name)!r}: a positive number fits")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that the recipe describes."""
        return tuple(name for name in MODALITIES if name in self.backbones or name in self.simple)

    def layer_groups(self, n_states: int) -> list[list[int]]:
        """Hidden states whose means are the layers of a feature.

        Parameters
        ----------
        n_states : int
            Number of hidden states of the backbone, the embedding output included.

        Returns
        -------
        list of list of int
            Numbers of hidden states, a list a layer.

        Examples
        --------
        >>> FeatureRecipe().layer_groups(9)
        [[4, 5], [6, 7, 8]]
        """
        states = [int(depth * (n_states - 1)) for depth in self.depths]
        if len(states) == 1 or self.aggregation == "none":
            return [[state] for state in states]
        if self.aggregation == "mean":
            return [states]
        ends = [*states[1:-1], states[-1] + 1]
        groups = [list(range(a, b)) for a, b in zip(states[:-1], ends, strict=True)]
        if not all(groups):
            raise InputError(f"depths {self.depths} pick no state between them of {n_states}")
        return groups


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with the package and say which features to work out."""
    folder = files("tribrain") / "recipes"
    return tuple(
        sorted(
            Path(f.name).stem
            for f in folder.iterdir()
            if f.name.endswith(".toml") and "[features." in f.read_text("utf-8")
        )
    )


def load_recipe(name: str | Path) -> FeatureRecipe:
    """Read the ``[features]`` of a recipe.

    Parameters
    ----------
    name : str or path
        One of `recipe_names`, or a file (.toml).

    Raises
    ------
    InputError
        A recipe that is not there, is no TOML, or has a key that is unknown.

    Examples
    --------
    >>> load_recipe("tribev2").backbones["audio"]
    'facebook/w2v-bert-2.0'
    """
    if str(name) in recipe_names():
        text = (files("tribrain") / "recipes" / f"{name}.toml").read_text("utf-8")
    elif Path(name).suffix == ".toml":
        try:
            text = require_file(name, "recipe").read_text("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"recipe {name} is not UTF-8 text") from None
    else:
        raise InputError(
            f"recipe {str(name)!r} is unknown; give a file (.toml), or one of: "
            f"{', '.join(recipe_names())}"
        )
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {name}: {error}") from None
    return recipe_from_table(content.get("features"), str(name))


def recipe_from_table(table: Any, source: str) -> FeatureRecipe:
    """Make a recipe of plain data; a wrong key names the valid ones."""
    if not isinstance(table, dict):
        raise InputError(f"recipe {source} has no table [features]")
    valid = [one.name for one in fields(FeatureRecipe)]
    for key in table:
        _known(f"recipe {source}: key", key, valid)
    try:
        return FeatureRecipe(**table)
    except (TypeError, AttributeError, ValueError) as error:
        raise InputError(f"recipe {source}: a value is of the wrong kind ({error})") from None
    except InputError as error:
        raise InputError(f"recipe {source}: {error}") from None


def _known(what: str, name: Any, known: Any) -> None:
    if name not in known:
        raise InputError(f"{what} {name!r} is unknown; known: {', '.join(known)}")
