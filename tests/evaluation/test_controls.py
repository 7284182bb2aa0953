"""Controls keep what features are like and break when what happens; runs never mix."""

from __future__ import annotations

import numpy as np
import pytest

from tribrain.errors import InputError
from tribrain.evaluation import controls

LENGTHS = (90, 61, 120)
RUNS = np.repeat(["one", "two", "three"], LENGTHS)


def features(columns: int = 3, seed: int = 0) -> np.ndarray:
    """Slow series that differ in their means, scales and runs."""
    random = np.random.default_rng(seed)
    steps = random.standard_normal((sum(LENGTHS), columns))
    return steps.cumsum(0) * [1.0, 5.0, 0.1][:columns] + [0.0, 100.0, -3.0][:columns]


def parts(x: np.ndarray) -> list[np.ndarray]:
    return np.split(x, np.cumsum(LENGTHS)[:-1])


def by_rows(x: np.ndarray) -> np.ndarray:
    return x[np.lexsort(x.T)]


MADE = {
    "shift": lambda x: controls.circular_shift(x, 25, RUNS, least=20),
    "phases": lambda x: controls.phase_randomised(x, 3, RUNS),
    "blocks": lambda x: controls.shuffled_blocks(x, 8, 3, RUNS),
    "rows": lambda x: controls.shuffled_rows(x, 3, RUNS),
    "film": lambda x: controls.other_film(x, RUNS, RUNS, 3),
}


@pytest.mark.parametrize("name", sorted(MADE))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_and_type_stay_and_what_was_given_is_not_touched(name, dtype):
    x = features().astype(dtype)
    before = x.copy()
    found = MADE[name](x)
    assert found.shape == x.shape
    assert found.dtype == dtype
    assert not np.allclose(found, x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(found, MADE[name](x))  # the same again


@pytest.mark.parametrize("name", ["shift", "blocks", "rows"])
def test_every_run_keeps_its_rows_whole(name):
    x = features()
    for found, run in zip(parts(MADE[name](x)), parts(x), strict=True):
        np.testing.assert_array_equal(by_rows(found), by_rows(run))


@pytest.mark.parametrize("rows", [20, -20, 41])
def test_a_shift_takes_the_end_of_a_run_to_its_start(rows):
    x = features()
    for found, run in zip(
        parts(controls.circular_shift(x, rows, RUNS, least=20)), parts(x), strict=True
    ):
        for t in (0, 7, len(run) - 1):
            np.testing.assert_array_equal(found[(t + rows) % len(run)], run[t])


def test_a_shift_near_the_start_or_the_end_of_any_run_is_refused():
    x = features()
    # 61 rows: 41 is 20 from the end, 42 is 19; 61 + 25 would be 25, but 90 - 86 is 4.
    for rows in (19, -19, 42, 86, 0):
        with pytest.raises(InputError, match="20 to"):
            controls.circular_shift(x, rows, RUNS, least=20)


def test_shifts_that_are_drawn_fit_all_runs_and_are_not_always_the_same():
    n = sum(LENGTHS)
    drawn = {controls.draw_shift(n, 20, seed, RUNS) for seed in range(30)}
    assert len(drawn) > 5
    for rows in drawn:
        controls.circular_shift(features(), rows, RUNS, least=20)
    with pytest.raises(InputError, match="80 rows or more"):
        controls.draw_shift(n, 40, 0, RUNS)


def test_random_phases_keep_spectra_and_what_columns_share():
    x = features()
    for found, run in zip(parts(controls.phase_randomised(x, 1, RUNS)), parts(x), strict=True):
        was, now = (np.fft.rfft(part, axis=0) for part in (run, found))
        np.testing.assert_allclose(np.abs(now), np.abs(was), atol=1e-8 * np.abs(was).max())
        # Cross-spectra: the products of one column with another's conjugate.
        for a, b in ((0, 1), (1, 2)):
            np.testing.assert_allclose(
                now[:, a] * now[:, b].conj(),
                was[:, a] * was[:, b].conj(),
                atol=1e-8 * np.abs(was).max() ** 2,
            )
        np.testing.assert_allclose(found.mean(0), run.mean(0))
        np.testing.assert_allclose(np.cov(found.T), np.cov(run.T))


def test_random_phases_of_runs_and_seeds_are_their_own():
    x = np.tile(features()[:60], (2, 1))
    runs = np.repeat([0, 1], 60)
    found = controls.phase_randomised(x, 1, runs)
    assert not np.allclose(found[:60], found[60:])
    assert not np.allclose(found, controls.phase_randomised(x, 2, runs))


def test_every_film_gets_the_features_of_another_cut_or_begun_anew():
    x = np.arange(sum(LENGTHS), dtype=float)[:, None]  # a value tells where it came from
    starts = np.cumsum([0, *LENGTHS[:-1]])
    for seed in range(5):
        for number, found in enumerate(parts(controls.other_film(x, RUNS, RUNS, seed))):
            source = int(np.searchsorted(np.cumsum(LENGTHS), found[0, 0], side="right"))
            assert source != number
            expected = starts[source] + np.arange(LENGTHS[number]) % LENGTHS[source]
            np.testing.assert_array_equal(found[:, 0], expected)


def test_runs_of_one_film_never_get_each_other():
    films = np.array(["a", "a", "b"])
    groups = np.repeat(films, LENGTHS)
    x = np.repeat([0.0, 1.0, 2.0], LENGTHS)[:, None]
    first, second, third = (part[:, 0] for part in parts(controls.other_film(x, RUNS, groups)))
    assert set(first) == set(second) == {2.0}
    assert set(third) == {0.0}  # the first run of the other


@pytest.mark.parametrize("block", [1, 7, 60])
def test_blocks_stay_together(block):
    x = np.arange(sum(LENGTHS), dtype=float)[:, None]
    found = controls.shuffled_blocks(x, block, 0, RUNS)[:, 0]
    steps = np.diff(found[: LENGTHS[0]])
    assert (steps != 1).sum() <= int(np.ceil(LENGTHS[0] / block))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x: controls.circular_shift(x[:, 0], 5), "(rows, columns)"),
        (lambda x: controls.circular_shift(x, 5, RUNS[:-1]), "one for each"),
        (lambda x: controls.circular_shift(x, 5, np.roll(RUNS, 5)), "stand together"),
        (lambda x: controls.other_film(x, RUNS, np.zeros(len(x))), "two films or more"),
        (lambda x: controls.other_film(x, RUNS, np.arange(len(x))), "several groups"),
        (lambda x: controls.other_film(x, RUNS, RUNS[1:]), "one for each"),
        (lambda x: controls.shuffled_blocks(x, 0, 0), "1 or more"),
        (lambda x: controls.shuffled_blocks(x, 100, 0, RUNS), "two or more"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(make, said):
    with pytest.raises(InputError) as error:
        make(features())
    assert said in str(error.value)
    assert "\n" not in str(error.value)
