"""Pictures one after the other: on the screen when they should be, and nothing is written."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from media_makers import one_line, refusal_or
from tribrain.encoder.models import load_model
from tribrain.errors import InputError
from tribrain.features import visual
from tribrain.features.extract import extract_features
from tribrain.features.frames import FramePreparation, prepared_frames
from tribrain.features.pieces import Extractors, pieces_of
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.store import Store
from tribrain.features.video import middle_frames
from tribrain.files import sha256
from tribrain.stimuli import pictures
from tribrain.stimuli.media import (
    PictureEvent,
    VideoTrack,
    iter_frames,
    picture_show,
    picture_track,
    probe,
)
from tribrain.stimuli.stimulus import Stimulus
from tribrain.viewing import report

GREY = 128


def flat(path: Path, level: int, size: tuple[int, int] = (12, 8)) -> Path:
    """A picture of one shade of grey, by which it is known again."""
    Image.new("RGB", size, (level,) * 3).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures 1 to 3 and 10, of shades 10, 20, 30 and 100, each of another size."""
    place = tmp_path / "faces"
    place.mkdir()
    for number in (10, 2, 1, 3):
        flat(place / f"face{number}.png", 10 * number, (12 + number, 8))
    return place


def design(path: Path, *rows: Sequence[object], header: str = "file onset duration condition"):
    lines = ["\t".join(header.split()), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def shades(track: VideoTrack, times: Sequence[float]) -> list[int]:
    """Shade on the screen at each time; GREY is blank."""
    numbers = track.frame_numbers(np.array(times))
    seen = dict(iter_frames(track, numbers.tolist()))
    assert all(frame.min() == frame.max() for frame in seen.values())
    return [int(seen[number][0, 0, 0]) for number in numbers.tolist()]


def stimulus_of(track: VideoTrack) -> Stimulus:
    return Stimulus("show", track.duration, track, None, (), None, track.path)


# Folders


def test_a_folder_is_shown_in_the_natural_order_of_its_names(folder):
    show = picture_show(folder, duration=2.0)
    assert [event.file.name for event in show.events if event.file] == [
        "face1.png",
        "face2.png",
        "face3.png",
        "face10.png",
    ]
    assert (show.track.stream, show.track.rate, show.track.start) == (None, None, 0.0)
    assert show.track.duration == 8.0
    assert show.track.frame_times.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert shades(show.track, [0, 1.99, 2, 5, 6, 7.99, 30]) == [10, 10, 20, 30, 100, 100, 100]
    assert show.notes == ()


def test_between_pictures_of_a_folder_the_screen_is_blank(folder):
    show = picture_show(folder, duration=1.5, blank=0.5)
    assert show.track.duration == 7.5  # none after the last
    assert shades(show.track, [0, 1.49, 1.5, 1.99, 2.0, 3.6, 6.0, 7.4]) == [
        *(10, 10, GREY, GREY, 20, GREY, 100, 100)
    ]
    assert [event.onset for event in show.events] == [0.0, 2.0, 4.0, 6.0]


def test_what_is_no_picture_is_passed_over_and_said(folder):
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "more.png").mkdir()
    show = picture_show(folder)
    assert len(show.events) == 4
    (note,) = show.notes
    assert note.endswith("passed over: more.png, notes.txt")


def test_capital_suffixes_and_numbers_of_many_digits_sort_as_people_do(tmp_path):
    names = ["007.png", "7.png", "A2.PNG", "a10.jpg", "b01x.jpeg", "B1.png", "²2.png", "img٣.png"]
    for name in names:
        flat(tmp_path / name, 50)
    found = [event.file.name for event in picture_show(tmp_path).events if event.file]
    assert found == [*names[:4], "B1.png", "b01x.jpeg", "img٣.png", "²2.png"]


@pytest.mark.parametrize("times", [{"duration": 0}, {"duration": float("nan")}, {"blank": -1}])
def test_times_that_cannot_be_are_refused(folder, times):
    with pytest.raises(InputError, match=r"positive|or more"):
        picture_show(folder, **times)


def test_what_shows_no_picture_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "film.mp4").write_bytes(b"")
    flat(tmp_path / "empty" / "broken.png", 3).write_bytes(b"no picture")
    for path in (tmp_path / "empty", tmp_path / "film.mp4", tmp_path / "none.tsv"):
        with pytest.raises(InputError) as error:
            picture_show(path)
        one_line(error, path if path.name != "empty" else path / "broken.png")
    (tmp_path / "empty" / "broken.png").unlink()
    with pytest.raises(InputError, match="holds no picture"):
        picture_show(tmp_path / "empty")


# Designs


def test_a_design_shows_each_picture_at_its_time_and_blank_between(folder):
    path = design(
        folder.parent / "design.tsv",
        ("faces/face10.png", 6.5, 1, "old"),
        ("faces/face1.png", 1, 2, "young"),
        ("faces/face2.png", 3, "0.5", "n/a"),
        ("faces/face1.png", 5, 0.25, "young"),
    )
    show = picture_show(path, duration=99.0, blank=9.0)  # of folders alone
    assert show.track.duration == 7.5
    assert show.track.frame_times.tolist() == [0, 1, 3, 3.5, 5, 5.25, 6.5]
    assert shades(show.track, [0, 0.9, 1, 2.9, 3, 3.4, 3.6, 5.1, 5.3, 6.6]) == [
        *(GREY, GREY, 10, 10, 20, 20, GREY, 10, GREY, 100)
    ]
    assert show.events[0] == PictureEvent(folder / "face1.png", 1.0, 2.0, "young")
    table = show.table()
    assert list(table.columns) == ["onset", "duration", "condition", "file"]
    assert table.condition.fillna("").tolist() == ["young", "", "young", "old"]
    assert table.onset.tolist() == [1, 3, 5, 6.5]


def test_the_columns_of_bids_and_a_blank_on_purpose_are_read(folder):
    path = design(
        folder / "events.tsv",
        (0, 1, "rest", "n/a", 3),
        (1, 1, "face", "face2.png", 4),
        header="onset duration trial_type stim_file response_time",
    )
    show = picture_show(path)
    assert shades(show.track, [0.5, 1.5]) == [GREY, 20]
    assert [event.condition for event in show.events] == ["rest", "face"]
    assert show.notes == ("events.tsv: columns not used: response_time",)


def test_times_that_add_up_leave_no_sliver_of_blank_and_do_not_overlap(folder):
    rows = [("face1.png", 0.1 * k, 0.1, "a") for k in range(30)]
    show = picture_show(design(folder / "d.tsv", *rows))
    assert None not in show.track.pictures
    assert len(show.track.frame_times) == 30
    assert np.all(np.diff(show.track.frame_times) > 0)


def test_rows_that_overlap_are_refused_by_name(folder):
    rows = [("face2.png", 4, 3, "a"), ("face1.png", 0, 2, "a"), ("face3.png", 6, 1, "b")]
    path = design(folder / "d.tsv", *rows)
    with pytest.raises(InputError, match="rows 2 and 4 overlap") as error:
        picture_show(path)
    one_line(error, path)


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        ([], "file onset duration", "shows no picture"),
        ([("n/a", 0, 1)], "file onset duration", "shows no picture"),
        ([("face1.png", 0, 1)], "picture onset duration", "no column file or stim_file"),
        ([("face1.png", 0, 1)], "file start duration", "no column onset"),
        ([("face1.png", 0, 1)], "file onset end", "no column duration"),
        ([("face1.png", 0, 1), ("face4.png", 1, 1)], "file onset duration", "row 3: .*'face4.png'"),
        ([("", 0, 1)], "file onset duration", "row 2: picture ''"),
        ([("..", 0, 1)], "file onset duration", "row 2: picture"),
        ([("a\0b", 0, 1)], "file onset duration", "row 2: picture"),
        ([("x" * 5000, 0, 1)], "file onset duration", "row 2: picture"),
        ([("face1.png", -1, 1)], "file onset duration", "row 2: onset '-1'"),
        ([("face1.png", "soon", 1)], "file onset duration", "row 2: onset 'soon'"),
        ([("face1.png", 0, "nan")], "file onset duration", "row 2: duration 'nan'"),
        ([("face1.png", 0, "1_0")], "file onset duration", "row 2: duration '1_0'"),
        ([("face1.png", 0, 0)], "file onset duration", "row 2: the duration"),
        ([("face1.png", 0)], "file onset duration", "row 2: duration ''"),
    ],
)
def test_a_wrong_design_is_refused_in_one_line_that_names_the_row(folder, rows, header, said):
    path = design(folder / "d.tsv", *rows, header=header)
    with pytest.raises(InputError, match=said) as error:
        picture_show(path)
    one_line(error, path)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(content=st.binary(max_size=120) | st.text('file\tonsduraic.0123 \n"n/a', max_size=120))
def test_any_content_is_a_design_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "d.tsv"
    head = b"file\tonset\tduration\n" if len(content) % 2 else b""
    path.write_bytes(head + (content if isinstance(content, bytes) else content.encode()))
    refusal_or(path, lambda: picture_show(path))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    gaps=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=12
    ),
    order=st.randoms(use_true_random=False),
)
def test_whatever_the_design_the_screen_shows_what_it_says(tmp_path_factory, gaps, order):
    """Against a screen filled a tenth of a second at a time."""
    place = tmp_path_factory.mktemp("screen")
    rows, screen, now = [], [], 0
    for gap, length, which in gaps:
        flat(place / f"{which}.png", 10 * which + 5)
        rows.append((f"{which}.png", (now + gap) / 10, length / 10, "c"))
        screen += [GREY] * gap + [10 * which + 5] * length
        now += gap + length
    order.shuffle(rows)
    track = picture_show(design(place / "d.tsv", *rows)).track
    assert track.duration == pytest.approx(now / 10)
    assert shades(track, [(k + 0.5) / 10 for k in range(now)]) == screen


# Frames


def test_each_frame_has_the_size_of_its_picture_and_a_blank_that_of_the_one_before(folder):
    path = design(folder / "d.tsv", ("face2.png", 1, 1, ""), ("face10.png", 3, 1, ""))
    track = picture_show(path).track
    assert track.pictures == (None, folder / "face2.png", None, folder / "face10.png")
    shapes = [frame.shape for _, frame in iter_frames(track, range(4))]
    assert shapes == [(8, 14, 3), (8, 14, 3), (8, 14, 3), (8, 22, 3)]
    assert dict(iter_frames(track, [2]))[2].shape == (8, 14, 3)  # whatever was seen before
    assert track.size == (14, 8)


def test_a_photo_that_lies_on_its_side_counts_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32), "white").save(tmp_path / "p.jpg", exif=exif)
    path = design(tmp_path / "d.tsv", ("p.jpg", 1, 1, ""))
    track = picture_show(path).track
    assert track.size == (32, 64)
    assert [frame.shape for _, frame in iter_frames(track, [0, 1])] == [(64, 32, 3)] * 2


def test_in_one_size_a_picture_keeps_its_shape_on_grey(tmp_path):
    flat(tmp_path / "a.png", 250, (80, 40))
    flat(tmp_path / "b.png", 250, (40, 80))
    show = picture_show(tmp_path, duration=1.0)
    wide, tall = (frame[..., 0] for _, frame in iter_frames(show.track, [0, 1], (64, 32)))
    assert wide.shape == tall.shape == (32, 64)
    assert wide.min() == 250
    assert set(np.unique(tall).tolist()) == {GREY, 250}
    assert (tall == 250).all(axis=0).nonzero()[0].tolist() == list(range(24, 40))
    assert "differ in shape" in " ".join(show.track.notes)


def test_pictures_are_read_when_they_are_seen_and_not_kept(folder, monkeypatch):
    show = picture_show(folder, duration=1.0, blank=1.0)
    read, reading = [], pictures.read_picture
    monkeypatch.setattr(
        pictures,
        "read_picture",
        lambda path, size: (read.append(path.stem), reading(path, size))[1],
    )
    frames = iter_frames(show.track, [0, 2, 3, 6])
    assert read == []
    next(frames)
    assert read == ["face1"]
    list(frames)
    assert read == ["face1", "face2", "face10"]


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    def peak(n: int) -> int:
        rng = np.random.default_rng(0)
        place = tmp_path / str(n)
        place.mkdir()
        for number in range(n):
            noise = rng.integers(0, 256, (100, 150, 3), np.uint8)
            Image.fromarray(noise).save(place / f"{number}.png")
        track = picture_show(place, duration=0.5).track
        tracemalloc.start()
        for _ in iter_frames(track, range(n)):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(2)  # what is imported on the way
    assert peak(40) < peak(4) + 100 * 150 * 3


def test_a_picture_that_breaks_off_is_named_when_it_is_read(folder):
    whole = textured(folder / "face3.png", 0).read_bytes()
    (folder / "face3.png").write_bytes(whole[: len(whole) // 2])
    show = picture_show(folder, duration=1.0)
    with pytest.raises(InputError) as error:
        list(iter_frames(show.track, range(4)))
    one_line(error, folder / "face3.png")


# Features


def textured(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> Path:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.NEAREST).save(path)
    return path


def test_simple_features_of_a_show_are_those_of_the_same_film(tmp_path):
    """The film, without loss and of as many frames a second as are looked at, is written here."""
    place = tmp_path / "pictures"
    place.mkdir()
    for number in range(3):
        textured(place / f"{number}.png", number)
    track = picture_show(place, duration=2.0, blank=1.0).track
    with av.open(str(tmp_path / "film.mov"), "w") as container:
        video = container.add_stream("png", rate=12)
        video.width, video.height, video.pix_fmt = 64, 48, "rgb24"
        shown = dict(iter_frames(track, range(5)))
        for number in track.frame_numbers(np.arange(96) / 12).tolist():
            frame = av.VideoFrame.from_ndarray(shown[number], format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
    film = probe(tmp_path / "film.mov")[0]
    assert film is not None
    names = list(visual.VISUAL)
    expected = next(visual.visual_pieces(film, names, [(0, 16)], 2.0))
    found = next(visual.visual_pieces(track, names, [(0, 16)], 2.0))
    assert expected.std(axis=1).min() > 0.004
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_backbone_sees_the_picture_in_the_middle_of_each_sample(folder):
    track = picture_show(folder, duration=1.0).track
    numbers = middle_frames(track, (0.0, 4.0), 4)[:, 0]
    import torch

    preparation = FramePreparation.of({"size": {"shortest_edge": 8}}, 8)
    frames = list(prepared_frames(track, numbers.tolist(), preparation, torch.device("cpu")))
    assert [int(frame.pixels.float().mean()) for frame in frames] == [10, 20, 30, 100]


def keys_of(track: VideoTrack) -> list:
    recipe = FeatureRecipe(simple={"video": ("contrast",)})
    return pieces_of(stimulus_of(track), "video", Extractors(recipe), sha256).keys


def test_the_store_s_key_is_of_the_pictures_and_their_times_whatever_they_are_called(folder):
    key = keys_of(picture_show(folder, duration=2.0, blank=0.5).track)
    elsewhere = folder.rename(folder.parent / "renamed")
    for number, name in enumerate(["face1.png", "face2.png", "face3.png", "face10.png"]):
        (elsewhere / name).rename(elsewhere / f"{number:03}.png")
    assert keys_of(picture_show(elsewhere, duration=2.0, blank=0.5).track) == key
    rows = [(f"renamed/{k:03}.png", 2.5 * k, 2, "any") for k in range(4)]
    as_design = picture_show(design(folder.parent / "d.tsv", *rows)).track
    assert keys_of(as_design) == key
    others = [
        picture_show(elsewhere, duration=2.0, blank=0.25).track,
        picture_show(elsewhere, duration=2.5).track,
        picture_show(design(folder.parent / "d.tsv", *rows[:3])).track,
        picture_show(
            design(folder.parent / "d.tsv", *rows[:2], ("renamed/003.png", 5, 2, ""), rows[3])
        ).track,
        picture_track(elsewhere / "000.png", as_design.duration),
    ]
    flat(elsewhere / "001.png", 21, (14, 8))
    others.append(picture_show(elsewhere, duration=2.0, blank=0.5).track)
    assert len({repr(k) for k in [key, *map(keys_of, others)]}) == 7


def test_features_of_a_show_are_kept_and_found_again(folder, tmp_path):
    store = Store(tmp_path / "store")
    recipe = FeatureRecipe(simple={"video": ("luminance", "contrast")})

    def run() -> np.ndarray:
        stimulus = stimulus_of(picture_show(folder, duration=1.0).track)
        return extract_features(stimulus, Extractors(recipe), ["video"], window=20.0, store=store)

    first, again = run(), run()
    assert (first.reuse["video"].reused, again.reuse["video"].reused) == (0, 1)
    np.testing.assert_array_equal(first["video"], again["video"])
    # 10, 20, 30 and 100 of 255, a second each at 2 Hz; the rows are left and right
    shades_seen = first["video"][0, 0, :8]
    np.testing.assert_allclose(shades_seen * 255, np.repeat([10, 20, 30, 100], 2), atol=20)
    assert np.all(np.diff(shades_seen[::2]) > 0)


def test_a_show_is_predicted_end_to_end_and_seen_in_the_report(folder):
    for number in range(5):
        textured(folder / f"face{number}.png", number, (30 + 7 * number, 40))
    track = picture_show(folder, duration=1.5, blank=0.4).track
    stimulus = stimulus_of(track)
    response = load_model("textbook").predict(stimulus)
    assert response.data.shape[0] == np.ceil(track.duration)
    assert np.isfinite(response.data.values).all()
    assert response.data.values.std() > 0
    seen = report._frames(stimulus, [0, 1, 2, 5])
    assert list(seen) == [0, 1, 2, 5]


def test_nothing_is_written_beside_the_pictures(folder):
    path = design(folder.parent / "d.tsv", ("faces/face1.png", 0, 1, "a"))
    before = sorted(folder.parent.rglob("*"))
    for show in (picture_show(folder), picture_show(path), picture_show(folder / "face1.png")):
        list(iter_frames(show.track, range(len(show.track.frame_times))))
        show.table()
    assert sorted(folder.parent.rglob("*")) == before
