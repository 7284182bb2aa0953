"""Frames made ready as the models' own processors do it, and told apart to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import makers
import tribrain
from family_makers import CLIP, HALVES, IMAGENET, PICTURE_SETTINGS
from tribrain.errors import InputError
from tribrain.features import frames as frames_module
from tribrain.features import video
from tribrain.features.extract import extract_features, find_backbones
from tribrain.features.frames import FramePreparation, prepared_frames
from tribrain.features.pieces import Extractors
from tribrain.features.recipe import FeatureRecipe

CPU = torch.device("cpu")
SIZES = [(360, 640), (640, 360), (241, 333), (540, 961), (224, 224), (97, 300), (500, 60)]
# Where each picture ends up: height and width of the resized whole, edge of the crop, filter.
RULES = {
    "vjepa2": ("shortest", 292, 256, Image.Resampling.BILINEAR, IMAGENET),
    "videomae": ("shortest", 224, 224, Image.Resampling.BILINEAR, IMAGENET),
    "dinov2": ("shortest", 256, 224, Image.Resampling.BICUBIC, IMAGENET),
    "dinov3_vit": ("both", 224, None, Image.Resampling.BILINEAR, IMAGENET),
    "vit": ("both", 224, None, Image.Resampling.BILINEAR, HALVES),
    "clip": ("shortest", 224, 224, Image.Resampling.BICUBIC, CLIP),
    "siglip": ("both", 224, None, Image.Resampling.BICUBIC, HALVES),
}


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth noise of several scales with an edge in it."""
    rng = np.random.default_rng(seed)
    layers = [
        gaussian_filter(rng.normal(size=(height, width, 3)), (scale, scale, 0)) * scale
        for scale in (1, 4, 16)
    ]
    picture = sum(layers)
    picture = 128 + 55 * picture / picture.std()
    picture[height // 3 : height // 2, width // 4 :] += 60
    return picture.clip(0, 255).astype(np.uint8)


def with_pillow(picture: np.ndarray, rule: tuple) -> np.ndarray:
    """Resized, cut out and normalised, (3, height, width), by an independent way."""
    how, edge, crop, resampling, (mean, std) = rule
    height, width = picture.shape[:2]
    if how == "both":
        size = edge, edge
    elif height < width:
        size = int(edge * width / height), edge
    else:
        size = edge, int(edge * height / width)
    image = Image.fromarray(picture).resize(size, resampling)
    if crop is not None:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    values = np.asarray(image).astype(np.float64) / 255
    return ((values - mean) / std).transpose(2, 0, 1)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", RULES)
def test_pictures_are_made_ready_as_pillow_does_it(kind, size):
    edge = 256 if kind == "vjepa2" else 224
    preparation = FramePreparation.of(PICTURE_SETTINGS[kind], edge)
    picture = scene(*size)
    ours = preparation.normalise(preparation.resize([picture], CPU))[0].numpy()
    expected = with_pillow(picture, RULES[kind])
    assert ours.shape == expected.shape == (3, edge, edge)
    grey_levels = np.abs(ours - expected) * 255 * np.array(preparation.std)[:, None, None]
    assert grey_levels.mean() < 1
    assert np.quantile(grey_levels, 0.999) <= 2.001
    assert expected.std() > 0.3


def test_the_published_rule_is_that_of_v_jepa_2():
    stated = FramePreparation.of(PICTURE_SETTINGS["vjepa2"], 256)
    assert stated == FramePreparation.of({}, 256)
    assert (stated.size, stated.crop, stated.resampling) == (292, 256, "bilinear")


@pytest.mark.parametrize(
    ("settings", "size", "crop"),
    [
        ({"size": 224}, (224, 224), None),  # older files of vit and dino
        ({"size": 224, "do_center_crop": True, "crop_size": 200}, 224, 200),  # of clip
        ({"size": {"shortest_edge": 240}}, 240, 224),
        ({"size": {"height": 200, "width": 210}}, (200, 210), None),
    ],
)
def test_sizes_are_read_as_they_are_meant(settings, size, crop):
    preparation = FramePreparation.of(settings, 224)
    assert (preparation.size, preparation.crop) == (size, crop)


def test_an_unknown_resampling_is_refused():
    with pytest.raises(InputError, match="resampling 5 of pictures"):
        FramePreparation.of({"resample": 5}, 224)


def test_frames_resized_together_equal_frames_alone():
    preparation = FramePreparation.of(PICTURE_SETTINGS["clip"], 224)
    pictures = [scene(120, 200, seed) for seed in range(3)]
    together = preparation.resize(pictures, CPU)
    assert together.dtype == torch.uint8
    for picture, ours in zip(pictures, together, strict=True):
        assert torch.equal(preparation.resize([picture], CPU)[0], ours)


# Frames that are the same


def shown(monkeypatch, pictures: list[np.ndarray]) -> list[frames_module.PreparedFrame]:
    """Frames of a film that shows these pictures."""
    monkeypatch.setattr(
        frames_module, "iter_frames", lambda track, numbers: ((n, pictures[n]) for n in numbers)
    )
    preparation = FramePreparation(size=36, crop=32)
    return list(prepared_frames(None, range(len(pictures)), preparation, CPU))


def test_frames_with_the_same_picture_are_one_picture(monkeypatch):
    a, b = scene(40, 60), scene(40, 60, 1)
    pictures = [a, a.copy(), b, b.copy(), b, *[a.copy() for _ in range(20)]]
    frames = shown(monkeypatch, pictures)
    assert [frame.number for frame in frames] == list(range(25))
    assert [frame.picture for frame in frames] == [0, 0, 2, 2, 2, *[5] * 20]
    preparation = FramePreparation(size=36, crop=32)
    for frame, picture in zip(frames, pictures, strict=True):
        assert torch.equal(frame.pixels, preparation.resize([picture], CPU)[0])


@pytest.mark.parametrize("place", [(0, 0, 0), (17, 3, 1), (39, 59, 2), (61 % 40, 30, 0)])
def test_one_grey_level_of_one_pixel_tells_frames_apart(monkeypatch, place):
    picture = scene(40, 60)
    other = picture.copy()
    other[place] ^= 1
    frames = shown(monkeypatch, [picture, other, picture])
    assert [frame.picture for frame in frames] == [0, 1, 2]


def test_a_film_that_changes_its_size_is_made_ready_all_the_same(monkeypatch):
    pictures = [scene(40, 60), scene(40, 60), scene(60, 40), scene(80, 50, 1), scene(40, 60)]
    frames = shown(monkeypatch, pictures)
    preparation = FramePreparation(size=36, crop=32)
    assert [frame.picture for frame in frames] == [0, 0, 2, 3, 4]
    for frame, picture in zip(frames, pictures, strict=True):
        assert torch.equal(frame.pixels, preparation.resize([picture], CPU)[0])


def extract(stimulus, backbones):
    recipe = FeatureRecipe(backbones={"video": "tiny-vjepa2"}, clip_seconds=1.0)
    extractors = Extractors(recipe, find_backbones(recipe, ["video"], backbones))
    return extract_features(stimulus, extractors, ["video"], window=20.0)["video"]


def count_clips(monkeypatch) -> list[int]:
    counts, run = [], video._run

    def counted(backbone, preparation, clips):
        counts.append(len(clips))
        return run(backbone, preparation, clips)

    monkeypatch.setattr(video, "_run", counted)
    return counts


@pytest.mark.parametrize("what", ["film", "picture"])
def test_what_stands_still_runs_once_and_gives_the_same_numbers(
    tmp_path, backbones, monkeypatch, what
):
    picture = scene(36, 48)
    moving = np.random.default_rng(0).integers(0, 256, (64, 36, 48, 3)).astype(np.uint8)
    film = tribrain.Stimulus.from_video(makers.write_film(tmp_path / "a.mp4", moving, rate=8))
    decode = frames_module.iter_frames
    # A film that stands still from 3 s to 7 s, or all along, to compare a picture with.
    still = range(24, 56) if what == "film" else range(64)

    def frozen(track, numbers):
        for number, frame in decode(track, numbers):
            yield number, picture.copy() if number in still else frame

    counts = count_clips(monkeypatch)
    if what == "picture":
        Image.fromarray(picture).save(tmp_path / "still.png")
        ours = extract(tribrain.Stimulus.from_image(tmp_path / "still.png", duration=8), backbones)
        assert counts == [1]
    monkeypatch.setattr(frames_module, "iter_frames", frozen)
    if what == "film":
        ours = extract(film, backbones)
        # Clips of 1 s end every half second; the six that end from 4 s to 6.5 s are one.
        assert sum(counts) == 16 - 5
    counts.clear()
    monkeypatch.setattr(frames_module, "_same", lambda a, b: False)
    assert np.abs(extract(film, backbones) - ours).max() <= 1e-6
    assert sum(counts) == 16
    assert np.abs(ours[..., :16]).max() > 0.1
