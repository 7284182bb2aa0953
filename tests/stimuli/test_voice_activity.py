"""Speech is found where it is, cut without loss, and joined so that each word comes once."""

from __future__ import annotations

import importlib.util
import itertools
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import makers
from tribrain.errors import InputError
from tribrain.stimuli import speech
from tribrain.stimuli.media import probe
from tribrain.stimuli.recognise_sound import RATE, length_at_16k, sound_at_16k
from tribrain.stimuli.speech import (
    WINDOW,
    LoudnessGate,
    SileroGate,
    best_gate,
    join_words,
    plan_pieces,
    speech_spans,
    spoken_words,
)
from tribrain.stimuli.tracks import AudioTrack
from tribrain.stimuli.words import Word

silero = pytest.mark.skipif(
    importlib.util.find_spec("silero_vad") is None, reason="silero-vad is not installed"
)


def sound_of(path: Path) -> tuple[np.ndarray, AudioTrack]:
    """All of a file's sound at 16 kHz, filled up to whole windows."""
    track = probe(path)[1]
    assert track is not None
    length = -(-length_at_16k(track) // WINDOW) * WINDOW
    return next(sound_at_16k(track, [(0, length)])), track


def spans_in_seconds(gate: speech.Gate, sound: np.ndarray) -> np.ndarray:
    return np.array(speech_spans(gate(sound))) * WINDOW / RATE


# The gates


@silero
def test_silero_gives_the_probabilities_of_its_own_model(stimuli: Path) -> None:
    sound, _ = sound_of(stimuli / "jfk-speech/jfk.wav")
    threads = torch.get_num_threads()
    gate = SileroGate()
    assert torch.get_num_threads() == threads
    found = np.concatenate([gate(sound[: 100 * WINDOW]), gate(sound[100 * WINDOW :])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.load(speech._silero_model())
    with torch.inference_mode():
        expected = [model(w, RATE).item() for w in torch.from_numpy(sound).split(WINDOW)]
    assert np.ptp(expected) > 0.9
    np.testing.assert_allclose(found, expected, atol=1e-4)


@silero
def test_a_silero_of_another_build_is_run_as_it_comes(
    stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, _ = sound_of(stimuli / "jfk-speech/jfk.wav")
    expected = SileroGate()(sound)
    monkeypatch.setattr(speech, "_SILERO_WEIGHTS", ("another.weight",))
    gate = SileroGate()
    assert gate._weights is None
    np.testing.assert_allclose(gate(sound), expected, atol=1e-4)


@silero
def test_phrases_of_a_speech_are_found_where_they_are(stimuli: Path) -> None:
    sound, _ = sound_of(stimuli / "jfk-speech/jfk.wav")
    found = spans_in_seconds(SileroGate(), sound)
    phrases = np.array([(0.3, 2.3), (3.3, 4.4), (5.4, 7.7), (8.2, 10.6)])
    # The second holds a pause of its own ("ask ... not").
    assert len(found) == 5
    np.testing.assert_allclose(found[[0, 1, 3, 4], 0], phrases[:, 0], atol=0.15)
    np.testing.assert_allclose(found[[0, 2, 3, 4], 1], phrases[:, 1], atol=0.15)


@silero
def test_music_and_birds_are_no_speech(stimuli: Path) -> None:
    sound, _ = sound_of(stimuli / "big-buck-bunny-30s/big_buck_bunny_0_30.webm")
    assert speech_spans(SileroGate()(sound)) == []
    assert len(speech_spans(LoudnessGate()(sound))) > 5  # which loudness cannot tell


def test_loudness_finds_bursts_in_noise_of_any_level() -> None:
    generator = np.random.default_rng(0)
    for noise, burst in ((0.0, 0.05), (0.001, 0.02), (0.005, 0.3)):
        sound = noise * generator.standard_normal(20 * RATE)
        for start in (2, 7, 13):
            sound[start * RATE : (start + 1) * RATE] += burst * generator.standard_normal(RATE)
        sound = sound.astype(np.float32)[: len(sound) // WINDOW * WINDOW]
        found = spans_in_seconds(LoudnessGate(), sound)
        np.testing.assert_allclose(found, [(2, 3), (7, 8), (13, 14)], atol=0.05)


def test_without_silero_loudness_serves_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "_silero_model", lambda: None)
    gate, notes = best_gate()
    assert gate.name == "loudness"
    assert "tribrain[offline]" in notes[0]
    with pytest.raises(InputError, match=r"tribrain\[offline\]"):
        SileroGate()


# Stretches of speech


def test_speech_begins_at_one_half_and_outlasts_short_dips() -> None:
    p = np.zeros(60, np.float32)
    p[5:20] = 0.6
    p[10:12] = 0.1  # too short a pause
    p[20:23] = 0.4  # neither begins nor ends speech
    p[30:35] = 0.9  # too short for speech
    p[52:60] = 0.7  # goes on to the end
    assert speech_spans(p) == [(5, 23), (52, 60)]
    assert speech_spans(np.full(40, 0.49)) == []
    assert speech_spans(np.zeros(0)) == []


# Pieces


@st.composite
def speech_in_windows(draw: st.DrawFn) -> list[tuple[int, int]]:
    lengths = st.one_of(st.integers(6, 60), st.integers(6, 1500))
    pauses = st.one_of(st.integers(3, 30), st.integers(3, 300))
    spans, now = [], draw(st.integers(0, 100))
    for _ in range(draw(st.integers(1, 12))):
        length = draw(lengths)
        spans.append((now, now + length))
        now += length + draw(pauses)
    return spans


@given(speech_in_windows(), st.sampled_from([6.0, 9.3, 30.0, math.inf]))
@settings(max_examples=100, deadline=None)
def test_all_speech_is_heard_and_none_twice_but_around_cuts(
    spans: list[tuple[int, int]], longest: float
) -> None:
    n_windows = spans[-1][1] + 10
    probabilities = np.random.default_rng(len(spans)).random(n_windows)
    n_samples = n_windows * WINDOW - 100
    pieces = plan_pieces(spans, probabilities, n_samples, longest)
    heard = np.zeros(n_samples, np.int8)
    for piece in pieces:
        assert 0 <= piece.first < piece.last <= n_samples
        assert piece.first % 320 == 0
        assert (piece.last - piece.first) / RATE <= longest
        heard[piece.first : piece.last] += 1
    spoken = np.zeros(n_samples, bool)
    for first, last in spans:
        spoken[first * WINDOW : last * WINDOW] = True
    assert heard[spoken].min() == 1
    assert sum(piece.speech for piece in pieces) == sum(b - a for a, b in spans) * WINDOW
    for piece in pieces:  # both sides of a cut hear a second beyond it, as far as speech goes
        if piece.cut is not None:
            assert longest < math.inf
            assert 0 <= piece.first - (piece.cut - RATE) < 320
            shared = slice(piece.first, min(piece.cut + RATE, piece.last))
            assert set(heard[shared]) == {2}
            heard[shared] = 1
    assert heard.max() == 1


def test_speech_is_cut_at_its_longest_pause() -> None:
    spans = [(0, 300), (310, 600), (660, 850), (855, 1500)]  # pauses of 10, 60 and 5 windows
    pieces = plan_pieces(spans, np.ones(1500), 1500 * WINDOW, 30.0)
    assert len(pieces) == 2
    assert pieces[1].cut is None
    assert 600 * WINDOW < pieces[0].last <= pieces[1].first < 660 * WINDOW


def test_unbroken_speech_is_cut_where_it_is_weakest() -> None:
    probabilities = np.ones(1200, np.float32)
    probabilities[[400, 700]] = 0.5  # the first lies too early to be used
    pieces = plan_pieces([(0, 1200)], probabilities, 1200 * WINDOW, 30.0)
    assert [piece.cut for piece in pieces] == [None, pytest.approx(700 * WINDOW, abs=WINDOW)]


def test_two_seconds_of_silence_part_speech() -> None:
    pieces = plan_pieces([(10, 50), (113, 150)], np.ones(200), 200 * WINDOW)
    assert [piece.last for piece in pieces] == [50 * WINDOW + RATE // 2, 150 * WINDOW + RATE // 2]
    assert pieces[0].first == 0
    assert 0 <= pieces[1].first - (113 * WINDOW - RATE // 2) < 320
    with pytest.raises(InputError, match="6 s or more"):
        plan_pieces([(0, 50)], np.ones(50), 50 * WINDOW, 2.0)


# Joining


def said(text: str, start: float = 0.0, step: float = 0.5, duration: float = 0.4) -> list[Word]:
    return [Word(w, start + n * step, duration) for n, w in enumerate(text.split())]


def texts(words: list[Word]) -> str:
    return " ".join(word.text for word in words)


def test_pieces_join_at_a_word_that_both_heard() -> None:
    left = [*said("a b c d e"), Word("gar", 2.5, 0.1)]  # cut off at its edge of hearing
    right = [Word("bled", 0.9, 0.1), *said("C d, e garden g", 1.0)]
    assert texts(join_words(left, right, 1.7)) in ("a b c d e garden g", "a b c d, e garden g")
    assert texts(join_words([], right, 1.7)) == texts(right)
    assert texts(join_words(left, [], 1.7)) == texts(left)


def test_a_word_said_twice_stays_twice() -> None:
    left, right = said("no no no no"), said("no no no no", 1.0)
    assert [w.start for w in join_words(left, right, 1.5)] == pytest.approx(
        [0, 0.5, 1.0, 1.5, 2.0, 2.5]
    )
    assert texts(join_words(said("no no"), said("no no", 1.0), 0.95)) == "no no no no"


def test_words_that_differ_are_divided_at_the_cut() -> None:
    left, right = said("a b lime"), said("sea d e", 1.0)
    assert texts(join_words(left, right, 1.1)) == "a b sea d e"
    assert texts(join_words(left, right, 1.3)) == "a b lime d e"


def test_a_word_that_neither_side_would_give_is_not_lost() -> None:
    left = [*said("a b"), Word("late", 1.2, 0.3)]  # one word, heard as two at different times
    right = [Word("early", 0.95, 0.2), *said("d e", 1.6)]
    assert texts(join_words(left, right, 1.18)) == "a b early late d e"


def test_all_joined_words_are_in_order_and_none_is_invented() -> None:
    generator = np.random.default_rng(1)
    for _ in range(200):
        sides = []
        for low, high in ((0, 6), (4, 10)):
            starts = np.sort(generator.uniform(low, high, 8))
            sides.append([Word(str(generator.integers(3)), s, 0.3) for s in starts])
        joined = join_words(sides[0], sides[1], 5.0)
        assert set(joined) <= {*sides[0], *sides[1]}
        starts = [word.start for word in joined]
        assert all(b >= a - 0.4 for a, b in itertools.pairwise(starts))
        assert {w for w in sides[0] if w.end < 3.5} <= set(joined)
        assert {w for w in sides[1] if w.start > 6.5} <= set(joined)


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 2)), max_size=12),
    st.lists(st.tuples(st.floats(0.5, 3), st.floats(0.3, 3)), max_size=5),
)
def test_words_outside_speech_are_dropped_and_counted(
    times: list[tuple[float, float]], gaps: list[tuple[float, float]]
) -> None:
    spans, now = [], 0.0
    for pause, length in gaps:
        spans.append((now + pause, now + pause + length))
        now += pause + length
    words = [Word("w", start, duration) for start, duration in times]
    kept, dropped = spoken_words(words, spans)
    near = [
        any(w.start < end + 0.2 and w.end >= start - 0.2 for start, end in spans) for w in words
    ]
    assert kept == [word for word, inside in zip(words, near, strict=True) if inside]
    assert dropped == len(words) - len(kept)


# Reading at 16 kHz


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 44_101, 48_000, 192_000])
def test_stretches_are_the_sound_whatever_else_is_read(tmp_path: Path, rate: int) -> None:
    time = np.arange(round(5.3 * rate)) / rate
    wave = 0.4 * np.sin(2 * np.pi * (200 * time + 150 * time**2))  # 200 to 1790 Hz
    both = np.stack([wave, 0.5 * wave])
    track = probe(makers.write_sound(tmp_path / "chirp.wav", both, rate))[1]
    assert track is not None
    assert length_at_16k(track) == pytest.approx(5.3 * RATE, abs=1)
    spans = [(0, 20_000), (15_999, 16_001), (16_001, 50_000), (40_000, 90_000)]
    time = np.arange(90_000) / RATE
    expected = 0.3 * np.sin(2 * np.pi * (200 * time + 150 * time**2)).astype(np.float32)
    expected[round(5.3 * RATE) :] = 0
    for (first, last), sound in zip(spans, sound_at_16k(track, spans), strict=True):
        assert sound.dtype == np.float32
        assert sound.shape == (last - first,)
        inner = sound[: max(0, 84_000 - first)]  # the filter rings where the sound breaks off
        np.testing.assert_allclose(inner, expected[first:last][: len(inner)], atol=0.02)
        alone = next(sound_at_16k(track, [(first, last)]))
        np.testing.assert_allclose(sound, alone, atol=1e-6)
