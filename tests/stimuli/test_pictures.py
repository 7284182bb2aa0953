"""A picture is one frame at all times, upright and opaque, or refused in one line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from media_makers import one_line, refusal_or
from tribrain.errors import InputError
from tribrain.stimuli.media import iter_frames, picture_track


def first_picture(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    return dict(iter_frames(picture_track(path, 2.0), [0], size))[0]


def test_a_picture_is_one_frame_at_all_times(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    track = picture_track(tmp_path / "p.png", 3.5)
    assert (track.stream, track.start, track.duration) == (None, 0.0, 3.5)
    assert track.frame_numbers(np.array([0.0, 1.7, 99.0])).tolist() == [0, 0, 0]
    np.testing.assert_array_equal(first_picture(tmp_path / "p.png"), pixels)
    assert first_picture(tmp_path / "p.png", (10, 5)).shape == (5, 10, 3)


def test_a_picture_is_yielded_for_each_number_once(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    frames = iter_frames(picture_track(tmp_path / "p.png", 1.0), [3, 0, 3])
    assert [number for number, _ in frames] == [0, 3]


def test_opaque_pixels_of_a_picture_with_alpha_keep_their_colour(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4)).astype(np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels, "RGBA").save(tmp_path / "p.png")
    np.testing.assert_array_equal(first_picture(tmp_path / "p.png"), pixels[..., :3])


def test_black_lines_on_a_transparent_ground_stay_visible(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[6:10, :, 3] = 255
    Image.fromarray(pixels, "RGBA").save(tmp_path / "drawing.png")
    found = first_picture(tmp_path / "drawing.png")
    assert found[8].max() == 0
    assert found[2].min() > 100


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "RGBA"])
def test_pictures_of_any_mode_become_red_green_blue(tmp_path, mode):
    path = tmp_path / ("p.jpg" if mode == "CMYK" else "p.png")
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(path)
    found = first_picture(path)
    assert found.shape == (4, 6, 3)
    assert found.min() >= 250


def test_a_grey_picture_of_16_bits_keeps_its_shades(tmp_path):
    shades = np.linspace(0, 65_535, 64).astype(np.uint16)[None].repeat(8, axis=0)
    Image.fromarray(shades).save(tmp_path / "grey.png")
    found = first_picture(tmp_path / "grey.png")[0, :, 0].astype(float)
    assert np.abs(found - shades[0] / 257).max() <= 1.5


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda p: p),
        (2, lambda p: p[:, ::-1]),
        (3, lambda p: np.rot90(p, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (8, np.rot90),
    ],
)
def test_a_photo_is_turned_as_its_exif_says(tmp_path, orientation, upright):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "p.jpg", quality=95, exif=exif)
    found = first_picture(tmp_path / "p.jpg").astype(int)
    assert found.shape == upright(pixels).shape
    assert np.abs(found - upright(pixels)).max() < 40


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf")])
def test_a_picture_is_shown_for_a_positive_finite_time(tmp_path, duration):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    with pytest.raises(InputError, match="positive"):
        picture_track(tmp_path / "p.png", duration)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "p.png"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        picture_track(path, 1.0)
    one_line(error, path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_cut_short_is_refused_in_one_line(tmp_path, kind):
    whole = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(whole, kind)
    path = tmp_path / f"p.{'png' if kind == 'PNG' else 'jpg'}"
    for kept in (0.01, 0.1, 0.6, 0.9):
        path.write_bytes(whole.getvalue()[: int(kept * len(whole.getvalue()))])
        with pytest.raises(InputError) as error:
            picture_track(path, 1.0)
        one_line(error, path)


def test_a_damaged_picture_is_read_or_refused(tmp_path):
    whole = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(whole, "PNG")
    path = tmp_path / "p.png"
    rng = np.random.default_rng(0)
    for _ in range(400):
        content = bytearray(whole.getvalue())
        content[rng.integers(8, 60)] = rng.integers(256)
        path.write_bytes(content)
        refusal_or(path, lambda: picture_track(path, 1.0))


@pytest.mark.parametrize("chunk", [b"IHDR", b"IDAT"])
def test_a_png_whose_chunk_states_too_small_a_size_is_refused_in_one_line(tmp_path, chunk):
    whole = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(whole, "PNG")
    content = bytearray(whole.getvalue())
    place = content.index(chunk) - 4
    content[place : place + 4] = (8).to_bytes(4, "big")
    path = tmp_path / "p.png"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        picture_track(path, 1.0)
    one_line(error, path)
