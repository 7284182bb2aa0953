"""p values of what predicts nothing, and the ceiling of what people share, by simulation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import fftconvolve
from scipy.stats import binomtest, gamma

from tribrain.errors import InputError
from tribrain.evaluation.rows import Part
from tribrain.evaluation.scoring import BOLD, Scorer, Way
from tribrain.evaluation.significance import chance
from tribrain.evaluation.work import Work

_SECONDS = np.arange(32.0)
RESPONSE = gamma.pdf(_SECONDS, 6) - gamma.pdf(_SECONDS, 16) / 6


def slow(rng, rows, columns):
    """Noise through a haemodynamic response, z-scored (rows, columns)."""
    noise = rng.standard_normal((rows + 31, columns))
    found = fftconvolve(noise, RESPONSE[:, None], "valid", axes=0)
    return (found - found.mean(0)) / found.std(0)


def unrelated(rng, lengths, people=3, outputs=8):
    """Pairs of what is predicted and measured, of everybody: films in common, not with it."""
    predicted = np.concatenate([slow(rng, rows, outputs) for rows in lengths])
    shared = np.concatenate([slow(rng, rows, outputs) for rows in lengths])
    noise = [np.concatenate([slow(rng, n, outputs) for n in lengths]) for _ in range(people)]
    return [(predicted.astype("f4"), (shared + one).astype("f4")) for one in noise]


class Given:
    """A scorer of arrays that are there."""

    def __init__(self, pairs, lengths):
        self.pairs, self.parts, self.lengths = pairs, pairs, lengths
        self.mask = np.ones(pairs[0][0].shape[1], bool)

    def edges(self):
        return list(pairwise(np.cumsum([0, *self.lengths]).tolist()))

    def blocks(self, rows):
        return [slice(0, 3), slice(3, len(self.mask))]

    def timeline(self, way, block):
        return [(x[:, block], y[:, block]) for x, y in self.pairs]


def test_p_of_what_predicts_nothing_is_below_a_level_as_often_as_it_says():
    """Shifts by a minute or more were few in spans of 130 s: 22 % below 0.05."""
    lengths = [130] * 4
    rng, p, found = np.random.default_rng(3), [], 0
    for seed in range(100):
        pairs = unrelated(rng, lengths)
        one = chance(Given(pairs, lengths), Way("way", ""), 99, seed)
        p.append(one.p)
        found += one.significant > 0
    low, high = binomtest(round(0.05 * len(p)), len(p)).proportion_ci(0.999)
    assert low < np.mean(np.array(p) <= 0.05) < high
    assert found <= high * len(p)


def test_what_is_predicted_is_told_from_chance():
    rng = np.random.default_rng(4)
    pairs = [(x, y + 0.5 * x * (np.arange(8) < 4)) for x, y in unrelated(rng, [300, 300])]
    found = chance(Given(pairs, [300, 300]), Way("way", ""), 999, 0)
    assert found.p == pytest.approx(0.001)
    assert (found.q[:4] <= 0.005).all()
    assert found.significant == (found.q <= 0.05).sum() < 7
    assert found.interval[0] < 0 < found.interval[1] < 0.2
    assert np.abs(found.one).max() < 0.35
    wider = chance(Given(pairs, [300, 300]), Way("way", "", crossed=True), 999, 0)
    assert np.ptp(wider.interval) == pytest.approx(2**0.5 * np.ptp(found.interval), rel=1e-5)
    with pytest.raises(InputError, match="nothing that way predicts varies"):
        chance(Given([(0 * x, y) for x, y in pairs], [300, 300]), Way("way", ""), 9, 0)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.3])
def test_ceilings_of_what_people_share_are_those_of_all_outputs(tmp_path, share):
    """Without outputs and films in which halves of people are unlike: else noise has one of 0.3."""
    rng, people, films, rows, outputs = np.random.default_rng(5), 5, 4, 150, 400
    work, parts = Work(tmp_path / "work", "key"), []
    for film in range(films):
        shown = np.sqrt(share) * rng.standard_normal((rows, outputs))
        for person in range(people):
            parts.append(Part(len(parts), "s", str(person), f"{film}/{person}", str(film), "test",
                              film, 0, np.arange(rows, dtype=float)))  # fmt: skip
            values = shown + rng.standard_normal((rows, outputs))
            work.put(((values - values.mean(0)) / values.std(0)).astype("f4"), BOLD, len(parts) - 1)
    both = Scorer(work, parts, np.ones(outputs, bool)).shared_ceilings(20, 0)
    assert both is not None
    for found, noise in zip(both, (1 / people, 1), strict=True):
        assert np.isfinite(found).all()
        truth = np.sqrt(share / (share + noise))
        assert found.mean() == pytest.approx(truth, abs=0.04 if share else 0.13)


def test_people_held_out_have_no_mean_in_films_that_others_were_trained_on(tmp_path):
    rng = np.random.default_rng(6)
    work, parts = Work(tmp_path / "work", "key"), []
    for film, side in enumerate(("held_out_seen", "held_out_unseen")):
        for person in range(2):
            parts.append(
                Part(
                    len(parts), "s", str(person), f"{film}/{person}", str(film), side, film, 0,
                    np.arange(40.0),
                )
            )  # fmt: skip
            work.put(slow(rng, 40, 3).astype("f4"), BOLD, len(parts) - 1)
        work.put(slow(rng, 40, 3).astype("f4"), "way", f"cell{film}")
    scorer = Scorer(work, parts, np.ones(3, bool))
    scorer.add_people()
    found = scorer.score(Way("way", "", unseen=True))
    assert sorted(found.parts) == [0, 1, 2, 3]
    assert list(found.group) == [1]
