"""Which backbones, layers and clock the features of a model are made with."""

from __future__ import annotations

from dataclasses import dataclass, field

from tribrain.errors import InputError

AGGREGATIONS = ("group_mean", "mean", "none")


@dataclass(frozen=True)
class FeatureRecipe:
    """Settings of the features (published recipe, section 1).

    Attributes
    ----------
    backbones : dict
        Full name of the pretrained model for each of ``text``, ``audio``, ``video``.
    depths : tuple of float
        Relative depths in [0, 1], ascending.
    aggregation : {"group_mean", "mean", "none"}
        ``group_mean``: the mean of the states between one depth and the next, the last one
        included; ``mean``: one mean over the states at the depths; ``none``: those states.
    frequency : float
        Samples a second.
    clip_seconds : float
        Length of the film that a video vector sees.
    context_words : int
        Words of context that a word vector sees.
    revisions : dict
        Branch, tag or commit of a modality's pretrained model on the hub; the newest by default.
    """

    backbones: dict[str, str] = field(default_factory=dict)
    depths: tuple[float, ...] = (0.5, 0.75, 1.0)
    aggregation: str = "group_mean"
    frequency: float = 2.0
    clip_seconds: float = 4.0
    context_words: int = 1024
    revisions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.aggregation not in AGGREGATIONS:
            raise InputError(
                f"layer aggregation {self.aggregation!r} is unknown; "
                f"known: {', '.join(AGGREGATIONS)}"
            )
        if not self.depths or list(self.depths) != sorted(self.depths):
            raise InputError(f"layer depths {self.depths} must be ascending, one at least")
        if not all(0 <= depth <= 1 for depth in self.depths):
            raise InputError(f"layer depths {self.depths} must lie in [0, 1]")

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
