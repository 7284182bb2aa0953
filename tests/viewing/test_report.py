"""The report page."""

from __future__ import annotations

import base64
import dataclasses
import io
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from makers import write_film, write_sound
from tribrain.brain.response import Response
from tribrain.brain.summaries import cortex_mask
from tribrain.errors import InputWarning
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import Word
from tribrain.viewing.report import report_page

NASTY = "<script>alert('x')</script> & \"co\" <b>"
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))


class Page(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def sources(self, kind: str) -> list[str]:
        held = (attrs.get("src") or "" for tag, attrs in self.tags if tag == "img")
        return [source for source in held if source.startswith(f"data:image/{kind}")]


def made(outputs: int = 1284, rows: int = 4, notes: list[str] | None = None, **attrs) -> Response:
    values = np.random.default_rng(0).normal(size=(rows, outputs))
    provenance = {}
    if notes is not None:
        source = {"file": "film.mp4", "duration_s": 3.5, "notes": notes}
        provenance = {"stimulus": source, "versions": {"tribrain": "9.8.7"}}
    given = {
        "model": "made",
        "revision": "7",
        "licence": "CC BY-NC 4.0 (not for commercial use)",
        "label": "made for a test, not trained",
        "subject": "unseen",
        "modalities": ["audio", "video"],
    }
    return Response.from_rows(
        values,
        lag=5.0,
        stimulus=np.ones(rows, bool),
        space=None,
        attrs=given | attrs,
        provenance=provenance,
    )


def with_words(stimulus: Stimulus, text: str) -> Stimulus:
    """A word in every second."""
    words = tuple(Word(text, number + 0.5, 0.3) for number in range(4))
    return dataclasses.replace(stimulus, words=words)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Stimulus:
    """A film of four seconds, each of one colour."""
    frames = np.repeat(np.array(COLOURS, np.uint8), 12, axis=0)[:, None, None]
    frames = np.broadcast_to(frames, (48, 36, 64, 3))
    return Stimulus.from_video(write_film(tmp_path_factory.mktemp("film") / "f.mp4", frames, 12))


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Stimulus:
    path = write_sound(tmp_path_factory.mktemp("sound") / "s.wav", np.zeros(64_000), 16_000)
    with pytest.warns(InputWarning, match="text is left out"):
        return Stimulus.from_audio(path)


@pytest.fixture(scope="module")
def html(film) -> str:
    """A page whose every free text is hostile."""
    response = made(
        notes=[NASTY + "note"],
        model=NASTY + "model",
        revision=NASTY + "revision",
        licence=NASTY + "licence",
        label=NASTY + "label",
        subject=NASTY + "subject",
    )
    response.provenance["stimulus"]["file"] = NASTY + "file"
    stimulus = with_words(film, NASTY + "word")
    return report_page(response, stimulus, n_moments=2, title=NASTY + "title")


def first_colour(source: str) -> np.ndarray:
    picture = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    return np.asarray(picture.convert("RGB"))[5, 5].astype(int)


def test_page_loads_nothing_and_runs_nothing(html):
    page = Page(html)
    tags = {tag for tag, _ in page.tags}
    assert tags.isdisjoint({"script", "link", "iframe", "object", "embed", "form", "base"})
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        assert "href" not in attrs
        if "src" in attrs:
            assert attrs["src"].startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_every_free_text_is_escaped_and_shown(html):
    page = Page(html)
    assert NASTY not in html
    for what in "title label model revision licence subject file note word".split():
        assert NASTY + what in page.text, what


def test_page_is_html_with_its_encoding_and_title(html):
    assert html.startswith("<!DOCTYPE html>")
    assert html.rstrip().endswith("</html>")
    assert html.count('<meta charset="utf-8">') == 1
    tags = [tag for tag, _ in Page(html).tags]
    assert tags.count("title") == tags.count("h1") == 1


def test_every_picture_has_words_for_it_and_can_be_opened(html):
    pictures = [attrs for tag, attrs in Page(html).tags if tag == "img"]
    assert len(pictures) == 2 * 2 + 2  # brain and frame of two moments, scale, regions
    for attrs in pictures:
        assert attrs["alt"]
        held = base64.b64decode(attrs["src"].partition(",")[2], validate=True)
        assert min(Image.open(io.BytesIO(held)).size) > 10


def test_page_states_label_licence_clock_unit_and_what_was_left_out(film):
    response = made(1000, notes=["no sound", "3 words start after the stimulus ends"])
    text = Page(report_page(response, film)).text
    for stated in (
        "made for a test, not trained",
        "CC BY-NC 4.0 (not for commercial use)",
        "no sound; 3 words start after the stimulus ends",
        "made (revision 7)",
        "audio, video",
        "film.mp4, 3.500 s",
        "row t holds the BOLD signal at t + 5 s",
        "z-scored BOLD signal, no absolute amplitude",
        "carries no map of its own accuracy",
        "tribrain 9.8.7",
    ):
        assert stated in text, stated


def test_page_says_that_nothing_was_left_out_where_nothing_was(film):
    assert "Left out, changednothing" in Page(report_page(made(1000, notes=[]), film)).text


def test_page_made_in_python_states_what_the_stimulus_lacks(sound):
    assert "no video" in Page(report_page(made(1000), sound)).text


def test_moments_are_the_telling_rows_with_their_frames_and_words(film):
    response = made(notes=[])
    page = Page(report_page(response, with_words(film, "boat"), n_moments=2))
    moments = response.telling_rows(2)
    frames = page.sources("jpeg")
    assert len(frames) == 2
    for row, frame in zip(moments, frames, strict=True):
        assert f"{row} s of the stimulus" in page.text
        assert f"BOLD at {row + 5} s" in page.text
        assert np.abs(first_colour(frame) - COLOURS[row]).max() < 40
    assert "boat" in page.text
    assert "medial wall left out" in page.text


def test_words_beside_a_moment_are_those_heard_around_it(film):
    words = tuple(Word(f"word{number}", number + 0.5, 0.3) for number in range(4))
    response = made()
    response.data.values[:] = 0
    response.data.values[2] = 1
    stimulus = dataclasses.replace(film, words=words)
    text = Page(report_page(response, stimulus, n_moments=1)).text
    assert "word1 word2" in text
    assert "word0" not in text
    assert "word3" not in text


def test_sound_alone_has_brains_and_no_frames(sound):
    page = Page(report_page(made(notes=["no video"]), sound, n_moments=1))
    assert not page.sources("jpeg")
    assert len(page.sources("png")) == 3
    assert "no video" in page.text


def test_page_can_be_made_without_the_stimulus():
    page = Page(report_page(made(rows=1), None, n_moments=4, title="one row"))
    assert len(page.sources("png")) == 3
    assert "one row" in page.text


@pytest.mark.parametrize("outputs", [200, 8802])
def test_response_off_the_surface_has_facts_and_no_pictures(film, outputs):
    page = Page(report_page(made(outputs, notes=[]), film))
    assert not any(tag == "img" for tag, _ in page.tags)
    assert "has no surface to draw" in page.text
    assert f"4 rows of 1 s, {outputs:,} values" in page.text
    assert "made for a test, not trained" in page.text


def test_silent_response_can_be_drawn():
    response = made(rows=2)
    response.data.values[:] = 0
    assert len(Page(report_page(response, None, n_moments=1)).sources("png")) == 3


def test_full_cortex_can_be_drawn():
    page = Page(report_page(made(20484, rows=2), None, n_moments=1))
    assert "20,484 values, fsaverage5" in page.text
    assert len(page.sources("png")) == 3


ACCURACY = {"measure": "r", "study": NASTY, "long_name": f"accuracy: r on {NASTY}"}


def test_accuracy_is_told_and_pictured_where_the_model_carries_it():
    values = np.full(1284, 0.2)
    values[:400] = 0.1
    values[900:1000] = np.nan
    mask = cortex_mask(made().space)
    values[~mask] = 50  # the medial wall does not count
    response = made(rows=1).with_accuracy(values, ACCURACY)
    html = report_page(response, None, n_moments=1)
    page = Page(html)
    assert NASTY not in html
    counted = int((mask & np.isfinite(values)).sum())
    assert f"r on {NASTY}: median over cortex 0.200, 0.100 to 0.200 in the middle 80 %" in page.text
    assert f"of {counted:,} values, map below" in page.text
    assert "carries no map" not in page.text
    pictures = [attrs.get("alt") for tag, attrs in page.tags if tag == "img"]
    assert pictures[-2:] == ["accuracy on the cortex", "colour scale of the accuracy"]
    assert len(page.sources("png")) == 3 + 2
    adapted = made(rows=1).with_accuracy(values, ACCURACY | {"adapted_from": "base"})
    assert "of base before it was adapted" in Page(report_page(adapted, None, n_moments=1)).text


def test_accuracy_off_the_surface_is_told_without_a_picture():
    response = made(200).with_accuracy(np.linspace(0, 0.4, 200), ACCURACY)
    page = Page(report_page(response, None))
    assert "median 0.200, 0.040 to 0.360 in the middle 80 % of 200 values" in page.text
    assert "map below" not in page.text
    assert not page.sources("png")


@pytest.mark.parametrize("outputs", [200, 1284])
def test_accuracy_that_is_defined_nowhere_is_told(outputs):
    response = made(outputs, rows=1).with_accuracy(np.full(outputs, np.nan), ACCURACY)
    page = Page(report_page(response, None, n_moments=1))
    assert "defined nowhere" in page.text
    assert "Accuracy of the model" not in page.text


@pytest.fixture
def late(tmp_path) -> Stimulus:
    """Sound for four seconds; a film in seconds 2 and 3 alone."""
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=12)
        video.width, video.height, video.pix_fmt = 64, 36, "yuv420p"
        video.options = {"bf": "0"}
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for number in range(12):
            image = np.full((36, 64, 3), COLOURS[0], np.uint8)
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = 24 + number, Fraction(1, 12)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 64_000), np.int16), "s16", "mono")
        sound.sample_rate, sound.pts = 16_000, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    with pytest.warns(InputWarning, match="text is left out"):
        return Stimulus.from_video(Path(tmp_path / "late.mkv"))


def test_moment_before_the_film_starts_shows_no_frame(late):
    response = made()
    response.data.values[1:] = 0
    page = Page(report_page(response, late, n_moments=1))
    assert "0 s of the stimulus" in page.text
    assert not page.sources("jpeg")
