"""The motion-energy pyramid: known truths, plain loops, and the package pymoten."""

from __future__ import annotations

import cmath
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tribrain.features.motion_energy import (
    COLUMNS,
    FILTERS,
    SIZE,
    MotionFilter,
    centre_square,
    lightness,
    motion_energy,
    motion_energy_pyramid,
    pyramid_filters,
    window_frames,
)

RATE = 12
MIDDLE = 24  # a frame far from both ends of the films below
DIRECTIONS = (0, 45, 90, 135, 180, 225, 270, 315)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small products on many threads wait for each other where the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drift(direction: float, cycles: float, hertz: float, n: int = 48, size: int = SIZE) -> Tensor:
    """A grating (n, size, size) about 0 that drifts in a direction, 90 degrees being up."""
    place = torch.linspace(0, 1, size, dtype=torch.float64)
    right, up = place[None, :], -place[:, None]
    angle = math.radians(direction)
    along = right * math.cos(angle) + up * math.sin(angle)
    time = torch.arange(n, dtype=torch.float64)[:, None, None] / RATE
    return torch.cos(2 * torch.pi * (cycles * along - hertz * time))


def noise(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(0, 100, (n, height, width)))


def one_answer(luma: np.ndarray, time: int, rate: float, one: MotionFilter) -> float:
    """The answer of one filter at one time, pixel by pixel and frame by frame."""
    n, height, width = luma.shape
    window = int(rate * 2 / 3)
    angle = math.radians(one.direction)
    total = 0j
    for lag in range(-(window - 1 - window // 2), window // 2 + 1):
        frame = luma[min(max(time - lag, 0), n - 1)]
        late = lag - (1 if window % 2 == 0 else 0.5)  # frames from the middle of the window
        in_time = math.exp(-((late / window / 0.3) ** 2) / 2)
        turn = one.temporal_frequency * late / rate
        for row in range(height):
            for column in range(width):
                x = column / (width - 1) * width / height - one.x
                y = row / (height - 1) - one.y
                weight = math.exp(-(x * x + y * y) / (2 * one.spatial_sd**2))
                cycles = one.spatial_frequency * (x * math.cos(angle) - y * math.sin(angle))
                wave = weight * cmath.exp(2j * math.pi * cycles)
                if abs(wave.real) + abs(wave.imag) > 0.001:
                    total += frame[row, column] * wave * in_time * cmath.exp(2j * math.pi * turn)
    return abs(total)


@pytest.mark.parametrize(("rate", "height", "width"), [(12, 14, 14), (11, 12, 19)])
def test_filters_answer_as_a_plain_loop_does(rate, height, width):
    filters = pyramid_filters(aspect=width / height)
    chosen = [filters[k] for k in np.random.default_rng(1).choice(len(filters), 6, replace=False)]
    luma = noise(12, height, width)
    found = motion_energy_pyramid(luma, rate, chosen)
    for time in (0, 2, 6, 11):
        expected = [one_answer(luma.numpy(), time, rate, one) for one in chosen]
        np.testing.assert_allclose(found[time], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("rate", "height", "width"), [(12, 36, 36), (12, 48, 48), (15, 30, 50), (24, 40, 24)]
)
@pytest.mark.parametrize("spatial", [(0, 2, 4, 8), (3, 6)])
def test_pyramid_is_that_of_pymoten(rate, height, width, spatial):
    moten = pytest.importorskip("moten")
    theirs = moten.pyramids.MotionEnergyPyramid(
        (height, width), rate, spatial_frequencies=spatial, temporal_frequencies=(0, 2, 4)
    )
    ours = pyramid_filters(spatial, (0, 2, 4), aspect=width / height)
    index = {described(one): k for k, one in enumerate(ours)}
    order = [index[described_by_pymoten(one)] for one in theirs.filters]
    assert sorted(order) == list(range(len(ours)))

    luma, window = noise(30, height, width), window_frames(rate)
    found = motion_energy_pyramid(luma, rate, ours)[:, order]
    # pymoten has black around the film: frames that stand still are shown to it instead.
    still = torch.cat((luma[:1].expand(window, -1, -1), luma, luma[-1:].expand(window, -1, -1)))
    expected = theirs.project_stimulus(
        still.numpy(), output_nonlinearity=lambda amplitude: amplitude, dtype="float64"
    )
    np.testing.assert_allclose(found, expected[window:-window], rtol=1e-6)
    as_given = theirs.project_stimulus(
        luma.numpy(), output_nonlinearity=lambda amplitude: amplitude, dtype="float64"
    )
    inside = slice(window // 2, -(window // 2))
    np.testing.assert_allclose(found[inside], as_given[inside], rtol=1e-6)


def described(one: MotionFilter) -> tuple[float, ...]:
    parameters = (one.x, one.y, one.direction, one.spatial_frequency, one.spatial_sd)
    return tuple(round(float(value), 9) for value in (*parameters, one.temporal_frequency))


def described_by_pymoten(one: dict[str, float]) -> tuple[float, ...]:
    direction = (one["direction"] + 180) % 360  # its directions are opposite to what drives them
    if one["temporal_freq"] == 0:
        direction %= 180
    if one["spatial_freq"] == 0:
        direction = 0
    return described(
        MotionFilter(
            one["centerh"],
            one["centerv"],
            direction,
            one["spatial_freq"],
            one["spatial_env"],
            one["temporal_freq"],
        )
    )


def test_lightness_is_that_of_pymoten():
    colorspace = pytest.importorskip("moten.colorspace")
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3)) / 255
    found = lightness(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    np.testing.assert_allclose(found, colorspace.rgb2lab(image.copy())[..., 0], atol=0.02)


@pytest.mark.parametrize(
    ("rgb", "expected"),  # from the CIE's definition, worked out by hand
    [((0, 0, 0), 0), ((255, 255, 255), 100), ((119, 119, 119), 50.03), ((2, 2, 2), 0.5484)],
)
def test_lightness_of_greys(rgb, expected):
    frame = torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1) / 255
    assert lightness(frame).item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("cycles", "hertz"), [(2, 2), (4, 4), (8, 2)])
def test_drifting_grating_drives_the_filter_of_its_direction_and_frequencies(
    direction, cycles, hertz
):
    found = motion_energy_pyramid(drift(direction, cycles, hertz), RATE, FILTERS)[MIDDLE]
    best = FILTERS[int(found.argmax())]
    assert best.direction == direction
    assert (best.spatial_frequency, best.temporal_frequency) == (cycles, hertz)
    opposite = dataclasses.replace(best, direction=(direction + 180) % 360)
    assert found[FILTERS.index(opposite)] < 0.06 * found.max()


@pytest.mark.parametrize("axis", ["left and right", "top and bottom"])
def test_mirrored_film_drives_the_mirrored_filters(axis):
    luma = noise(20, SIZE, SIZE)
    sideways = axis == "left and right"
    there = motion_energy_pyramid(luma, RATE, FILTERS)
    mirrored = [
        dataclasses.replace(
            one,
            x=1 - one.x if sideways else one.x,
            y=one.y if sideways else 1 - one.y,
            direction=(180 * sideways - one.direction) % 360,
        )
        for one in FILTERS
    ]
    found = motion_energy_pyramid(luma.flip(2 if sideways else 1), RATE, mirrored)
    np.testing.assert_allclose(found, there, rtol=1e-9)
    assert not torch.allclose(motion_energy_pyramid(luma.flip(2), RATE, FILTERS), there, rtol=0.1)


def test_still_picture_drives_the_filters_of_0_hertz_most():
    found = motion_energy_pyramid(noise(1, SIZE, SIZE).expand(48, -1, -1), RATE, FILTERS)
    assert torch.allclose(found, found[MIDDLE].expand_as(found), rtol=1e-9)
    by_filter = dict(zip(FILTERS, found[MIDDLE].tolist(), strict=True))
    for one, answer in by_filter.items():
        if one.temporal_frequency:
            still = dataclasses.replace(one, direction=one.direction % 180, temporal_frequency=0)
            assert 0 < answer < 0.06 * by_filter[still]


def test_black_gives_exactly_zero_and_white_does_not():
    assert not motion_energy(torch.zeros(5, 3, 36, 64), RATE).any()
    assert motion_energy(torch.ones(5, 3, 36, 64), RATE).max() > 10


def test_values_grow_in_proportion_to_contrast():
    luma = drift(0, 4, 2)
    once = motion_energy_pyramid(luma, RATE, FILTERS)
    assert torch.allclose(motion_energy_pyramid(3 * luma, RATE, FILTERS), 3 * once, rtol=1e-9)


@pytest.mark.parametrize(("x", "y"), [(0.2375, 0.2375), (0.7625, 0.2375), (0.5, 0.7625)])
def test_filter_at_the_place_of_the_motion_answers_most(x, y):
    luma = drift(90, 8, 2)
    row, column = round(y * (SIZE - 1)), round(x * (SIZE - 1))
    seen = torch.zeros_like(luma)
    near = (slice(None), slice(row - 4, row + 5), slice(column - 4, column + 5))
    seen[near] = luma[near]
    finest = [one for one in FILTERS if one.spatial_frequency == 8]
    found = motion_energy_pyramid(seen, RATE, finest)[MIDDLE]
    best = finest[int(found.argmax())]
    assert (best.x, best.y) == pytest.approx((x, y))
    assert (best.direction, best.temporal_frequency) == (90, 2)


def test_what_moves_later_is_not_seen_yet():
    luma = noise(48, SIZE, SIZE)
    other = luma.clone()
    other[30:] = 0
    one, two = (motion_energy_pyramid(film, RATE, FILTERS) for film in (luma, other))
    changed = (one - two).abs().max(dim=1).values > 1e-6
    assert torch.nonzero(changed)[0].item() == 30 - 3


def test_filters_of_the_preset_have_their_own_names():
    assert len(COLUMNS) == len(set(COLUMNS)) == len(FILTERS) == 253
    for name in (
        "motion_energy_sf8_tf2_dir90_x0.2375_y0.7625",
        "motion_energy_sf4_tf0_dir135_x0.5_y0.5",
        "motion_energy_sf0_tf4_sd0.3_x0.5_y0.5",
        "motion_energy_sf0_tf4_sd0.15_x0.5_y0.5",
    ):
        assert name in COLUMNS
    assert not [name for name in COLUMNS if "tf0_dir180" in name]


def test_wider_picture_has_more_filters_side_by_side():
    square, wide = pyramid_filters((8,), (2,), (0,)), pyramid_filters((8,), (2,), (0,), aspect=2.5)
    assert sorted({one.y for one in wide}) == sorted({one.y for one in square})
    assert np.mean(sorted({one.x for one in wide})) == pytest.approx(1.25)
    assert len({one.x for one in wide}) == 9


@pytest.mark.parametrize(("height", "width"), [(36, 64), (16, 64), (64, 64), (114, 64), (27, 64)])
def test_centre_square_of_any_shape(height, width):
    image = torch.zeros(1, 1, height, width)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image[..., top : top + side // 2, left : left + side // 2] = 1  # the square's first quarter
    square = centre_square(image)[0, 0]
    assert square.shape == (SIZE, SIZE)
    half = SIZE // 2
    assert square[: half - 3, : half - 3].min() == pytest.approx(1, abs=0.1)
    assert square[half + 3 :].max() < 0.1
    assert square[:, half + 3 :].max() < 0.1
    assert square.min() >= 0
    assert square.max() <= 1


def test_motion_energy_is_the_logarithm_of_the_pyramid_of_lightness():
    frames = torch.rand(10, 3, 36, 64, generator=torch.Generator().manual_seed(0))
    luma = lightness(frames[..., 14:50].double())
    expected = torch.log(1 + motion_energy_pyramid(luma, RATE, FILTERS))
    found = motion_energy(frames, RATE)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
