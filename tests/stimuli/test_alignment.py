"""Words of a known text found in sound: on real speech, synthetic speech and made-up tones."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espeak_makers import sentences, speak
from makers import write_sound
from tribrain.errors import InputError
from tribrain.stimuli import align_sphinx
from tribrain.stimuli.align_anchors import Heard, Passage, alternatives, anchors, match, passages
from tribrain.stimuli.align_ctc import CtcAligner, load_ctc
from tribrain.stimuli.align_sound import quiet_cuts, sound_16k
from tribrain.stimuli.align_spelling import letters_to_sounds, number_words, pronunciations
from tribrain.stimuli.alignment import Aligner, Place, align_text, complete, in_order, load_aligner
from tribrain.stimuli.media import probe
from tribrain.stimuli.words import Word, spoken_times

CALM = settings(max_examples=100, deadline=None, derandomize=True)
JFK = (
    "and so my fellow americans ask not what your country can do for you "
    "ask what you can do for your country"
)


def in_text_order(words: list[Word], text: str) -> None:
    """Each word of the text once, in order; no word begins before the last one has ended."""
    assert [word.text for word in words] == [word.text for word in spoken_times(text)]
    assert all(word.duration >= 0 for word in words)
    assert all(b.start >= a.end - 1e-9 for a, b in pairwise(words))


class Given:
    """An aligner that returns what it was given."""

    name = "given"

    def __init__(self, places: list[Place | None]) -> None:
        self.places = places

    def align(
        self, words: object, sound: np.ndarray, language: str
    ) -> tuple[list[Place | None], list[str]]:
        return self.places, []


SECOND = np.zeros(16_000, np.float32)


def test_words_not_found_lie_between_their_neighbours_by_syllables() -> None:
    places = [None, Place(2.0, 2.5, 0.9), None, None, Place(4.0, 5.0), None]
    words, notes = align_text("So many banana is here, now", np.tile(SECOND, 10), Given(places))
    found = [(word.text, round(word.start, 6), round(word.end, 6)) for word in words]
    assert found == [
        ("So", 1.8, 2.0),
        ("many", 2.0, 2.5),
        ("banana", 2.5, 3.625),
        ("is", 3.625, 4.0),
        ("here", 4.0, 5.0),
        ("now", 5.0, 5.2),
    ]
    assert [word.source[0] for word in words] == list("iaiiai")
    assert [word.confidence for word in words] == [None, 0.9, None, None, None, None]
    assert len(notes) == 1
    assert "4 of 6 words" in notes[0]


@CALM
@given(
    st.lists(st.none() | st.tuples(st.floats(-1, 12), st.floats(-1, 3)), min_size=1, max_size=12)
)
def test_any_places_become_words_in_order_within_the_sound(
    raw: list[tuple[float, float] | None],
) -> None:
    places = [None if one is None else Place(one[0], one[0] + one[1]) for one in raw]
    words = complete(["word"] * len(raw), in_order(places, 10.0), 10.0)
    assert len(words) == len(raw)
    assert all(b.start >= a.start for a, b in pairwise(words))
    assert words[0].start >= 0
    assert max(word.end for word in words) <= 10 + 1e-9
    assert [word.source == "interpolated" for word in words] == [one is None for one in raw]


@CALM
@given(st.lists(st.integers(0, 3), min_size=1, max_size=7), st.lists(st.integers(0, 3), max_size=7))
def test_matching_is_the_best_common_subsequence(text: list[int], heard: list[int]) -> None:
    weights = [1.0 + word for word in text]

    def best(i: int, j: int) -> float:
        if i == len(text) or j == len(heard):
            return 0.0
        score = max(best(i + 1, j), best(i, j + 1))
        return max(score, weights[i] + 1 + best(i + 1, j + 1)) if text[i] == heard[j] else score

    pairs = match(np.array(text), np.array(heard, int), np.array(weights))
    used = [int(j) for j in pairs if j >= 0]
    assert used == sorted(set(used))
    assert all(text[i] == heard[j] for i, j in enumerate(pairs) if j >= 0)
    # A pair spares its two words the cost of half a sound each, so it counts one more.
    assert sum(weights[i] + 1 for i, j in enumerate(pairs) if j >= 0) == pytest.approx(best(0, 0))


def test_passages_cover_the_text_and_leave_out_what_has_no_time() -> None:
    heard = [Heard(i, 0.5 * i, 0.5 * i + 0.4) for i in range(200)]
    sounds = [4] * 200
    found = anchors(range(200), heard, sounds)
    assert len(found) == 200
    cut, crowded = passages(found, sounds, 100.0)
    assert crowded == 0
    assert [p.first for p in cut] == [0, *(p.last for p in cut[:-1])]
    assert cut[-1].last == 200
    assert all(5.99 <= p.end - p.start <= 20.01 for p in cut[:-1])
    # Thirty words more in the text, at no time of their own.
    entries = [*range(100), *range(300, 330), *range(100, 200)]
    found = anchors(entries, heard, [4] * 230)
    cut, crowded = passages(found, [4] * 230, 100.0)
    assert crowded == 30
    assert not any(p.first < 130 and p.last > 100 for p in cut)


def test_sound_that_is_not_in_the_text_is_set_apart() -> None:
    # A minute before, thirty seconds in the middle with three words in it, a minute behind.
    starts = [60 + 0.5 * i + 30 * (i >= 20) for i in range(40)]
    heard = [Heard(i, start, start + 0.4) for i, start in enumerate(starts) if i not in (20, 21)]
    found = anchors(range(40), heard, [4] * 40)
    cut, crowded = passages(found, [4] * 40, 190.0)
    assert crowded == 0
    assert [(p.first, p.last, p.sure) for p in cut] == [
        (0, 20, True),
        (20, 22, False),
        (22, 40, True),
    ]
    assert 59 < cut[0].start < 60
    assert cut[0].end < 71
    assert cut[2].start > 100
    assert cut[2].end < 112
    near_before, near_after, whole = alternatives(cut[1], [4] * 40)
    assert whole == cut[1]
    assert near_before.start == whole.start
    assert near_after.end == whole.end
    assert near_before.end - near_before.start == near_after.end - near_after.start < 5
    assert alternatives(cut[0], [4] * 40) == [cut[0]]


def test_cuts_lie_where_it_is_quiet() -> None:
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 40 * 16_000).astype(np.float32)
    sound[int(14.2 * 16_000) : int(14.6 * 16_000)] = 0
    cuts = quiet_cuts(sound, 10, 20)
    assert cuts[0] == 0
    assert cuts[-1] == len(sound)
    assert 14.2 < cuts[1] / 16_000 < 14.6
    assert all(b - a <= 20 * 16_000 for a, b in pairwise(cuts))


def test_a_track_is_resampled_without_seams_and_keeps_its_own_start(tmp_path: Path) -> None:
    rate, seconds = 44_100, 130
    moment = np.arange(rate * seconds) / rate
    path = write_sound(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 440 * moment), rate)
    track = probe(path)[1]
    assert track is not None
    sound = sound_16k(track)
    assert len(sound) == 16_000 * seconds
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(sound)) / 16_000)
    assert np.abs(sound - expected)[100:-100].max() < 2e-3
    words, _ = align_text("Hello", replace(track, start=3.0), Given([Place(1.0, 2.0)]))
    assert (words[0].start, words[0].end) == (4.0, 5.0)


@pytest.mark.parametrize(
    ("text", "sound", "message"),
    [
        ("... !", SECOND, "no words"),
        ("Hello", SECOND[:0], "empty"),
        ("Hello", SECOND.reshape(2, -1), "mono"),
        ("Hello", SECOND + np.nan, "finite"),
    ],
)
def test_what_cannot_be_aligned_is_said(text: str, sound: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        align_text(text, sound, Given([None]))


# CTC


class Tones(torch.nn.Module):
    """A "speech model" that hears letters as tones: power at each letter's frequency."""

    letters = "ABCDEFGH"

    def __init__(self) -> None:
        super().__init__()
        time_in_frame = torch.arange(320) / 16_000
        frequencies = torch.tensor([50.0 * (8 + 4 * k) for k in range(len(self.letters))])
        angle = 2 * torch.pi * frequencies[:, None] * time_in_frame
        self.waves = torch.nn.Parameter(torch.cat([angle.sin(), angle.cos()])[:, None])
        self.longest = 0

    def forward(self, wave: torch.Tensor) -> SimpleNamespace:
        self.longest = max(self.longest, wave.shape[-1])
        heard = torch.nn.functional.conv1d(wave[:, None], self.waves, stride=320)
        power = heard[:, : len(self.letters)] ** 2 + heard[:, len(self.letters) :] ** 2
        nothing = torch.full_like(power[:, :1], 500.0)
        return SimpleNamespace(logits=torch.cat([nothing, power], 1).transpose(1, 2) / 50)

    @classmethod
    def say(cls, text: str, letter: float = 0.1, pause: float = 0.2) -> np.ndarray:
        pieces = []
        for character in text:
            moment = np.arange(round((pause if character == " " else letter) * 16_000)) / 16_000
            if character == " ":
                pieces.append(0 * moment)
                continue
            frequency = 50.0 * (8 + 4 * cls.letters.index(character.upper()))
            tone = 0.5 * np.sin(2 * np.pi * frequency * moment)
            tone[-640:] = 0  # parts a letter from one like it
            pieces.append(tone)
        return np.concatenate(pieces).astype(np.float32)


def tones(**settings: float) -> CtcAligner:
    vocabulary = {letter: k for k, letter in enumerate(Tones.letters, start=1)}
    return CtcAligner(Tones(), vocabulary, 0, 320, normalised=False, **settings)


@pytest.mark.parametrize("chunk", [20.0, 1.0])
def test_ctc_finds_words_at_their_times(chunk: float) -> None:
    text = " ".join(["bad cafe face", "add bee cabbage deaf head"] * 8)
    aligner = tones(chunk=chunk, margin=0.5)
    words, notes = align_text(text, Tones.say(text), aligner)
    in_text_order(words, text)
    assert not notes
    now = 0.0
    for word in words:
        assert word.start == pytest.approx(now, abs=0.021)
        assert word.end == pytest.approx(now + 0.1 * len(word.text) - 0.04, abs=0.021)
        assert word.source == "aligned"
        assert word.confidence is not None
        assert word.confidence > 0.9
        now += 0.1 * len(word.text) + 0.2
    if chunk < 20:
        assert aligner.model.longest < 2.2 * 16_000


def test_ctc_places_a_word_that_it_cannot_spell_between_its_neighbours() -> None:
    words, notes = align_text("bad 77 Fäce", Tones.say("bad face"), tones())
    assert [word.source for word in words] == ["aligned", "interpolated", "aligned"]
    assert words[0].end <= words[1].start <= words[1].end <= words[2].start
    assert words[2].start == pytest.approx(0.5, abs=0.03)
    assert any("vocabulary" in note and "7" in note for note in notes)


def test_ctc_leaves_out_a_word_that_is_not_said() -> None:
    words, notes = align_text("bad hehe face", Tones.say("bad face"), tones())
    assert [word.source for word in words] == ["aligned", "interpolated", "aligned"]
    assert words[2].start == pytest.approx(0.5, abs=0.03)
    assert any("'hehe'" in note for note in notes)


def test_ctc_with_less_sound_than_letters_interpolates_all() -> None:
    words, notes = align_text("cabbage cabbage", Tones.say("b"), tones())
    assert [word.source for word in words] == ["interpolated"] * 2
    assert words[-1].end <= 0.1 + 1e-9
    assert any("more than 0.1 s" in note for note in notes)


@pytest.fixture(scope="module")
def ctc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Wav2Vec2ForCTC with a vocabulary, in Hugging Face format."""
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
    )

    folder = tmp_path_factory.mktemp("ctc")
    torch.manual_seed(0)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
    vocabulary = folder / "letters.json"
    vocabulary.write_text(json.dumps({c: n for n, c in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=len(letters),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            pad_token_id=0,
        )
    ).save_pretrained(folder)
    return folder


def test_a_model_is_read_from_a_folder_and_hears_as_transformers_has_it(ctc_folder: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    aligner = load_aligner(f"ctc:{ctc_folder}")
    assert isinstance(aligner, CtcAligner)
    rng = np.random.default_rng(0)
    sound = rng.normal(0.1, 0.2, 48_000).astype(np.float32)
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(ctc_folder)
    inputs = extractor(
        np.pad(sound, (0, 640), constant_values=sound.mean()),
        sampling_rate=16_000,
        return_tensors="pt",
    )
    with torch.inference_mode():
        logits = Wav2Vec2ForCTC.from_pretrained(ctc_folder).eval()(**inputs).logits[0]
    expected = torch.log_softmax(logits, -1).numpy()[:150]
    # The extractor's mean and variance include the added samples.
    np.testing.assert_allclose(aligner.emissions(sound), expected, atol=0.02)
    assert aligner.spell("Don’t|<pad>") == [8, 19, 18, 31, 24, 20, 5, 8]
    words, _ = align_text("Ask not what your country can do", sound, aligner)
    in_text_order(words, "Ask not what your country can do")
    assert all(word.source == "aligned" for word in words)


def test_a_wrong_folder_is_said(tmp_path: Path, ctc_folder: Path, backbones: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_aligner(f"ctc:{tmp_path / 'none'}")
    with pytest.raises(InputError, match=r"no config\.json"):
        load_aligner(f"ctc:{tmp_path}")
    copy = tmp_path / "copy"
    shutil.copytree(ctc_folder, copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        load_ctc(copy)
    (copy / "vocab.json").write_text('{"deu": {"a": 1}}')
    with pytest.raises(InputError, match="several languages"):
        load_ctc(copy)
    (copy / "vocab.json").write_text("[1")
    with pytest.raises(InputError, match="not the JSON"):
        load_ctc(copy)
    shutil.copy(ctc_folder / "vocab.json", backbones / "tiny-w2v-bert" / "vocab.json")
    with pytest.raises(InputError, match="Wav2Vec2BertModel"):
        load_ctc(backbones / "tiny-w2v-bert")
    (backbones / "tiny-w2v-bert" / "vocab.json").unlink()


def test_aligners_are_named() -> None:
    with pytest.raises(InputError, match="known: auto, pocketsphinx, ctc:FOLDER"):
        load_aligner("mfa")
    with pytest.raises(InputError, match="ctc:FOLDER"):
        load_aligner("ctc")
    assert load_aligner("auto", language="de") is None


# Spelling


def test_numbers_and_years_are_read() -> None:
    assert " ".join(number_words(1_203_011)) == ("one million two hundred three thousand eleven")
    known = {word: [word.upper()] for word in "nineteen sixty nine point three five".split()}
    assert pronunciations("1969", known)[0][0] == "NINETEEN SIXTY NINE"
    assert pronunciations("3.5", known) == (["THREE POINT FIVE"], True)


@CALM
@given(st.text(max_size=12))
def test_any_word_has_a_pronunciation_or_none(word: str) -> None:
    ways, _ = pronunciations(word, {"the": ["DH AH"]})
    sounds = (
        "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW B CH D DH F G HH JH K L M N NG P R S SH T"
    )
    for way in ways:
        assert way
        assert set(way.split()) <= {*sounds.split(), "TH", "V", "W", "Y", "Z", "ZH"}
    if any(c.isascii() and c.isalpha() for c in word):
        assert ways


def test_letters_follow_rules_and_the_dictionary_comes_first() -> None:
    assert letters_to_sounds("blimfoozle") == "B L IH M F UW Z AH L".split()
    assert letters_to_sounds("knights") == "N AY T S".split()
    known = {"harbour": ["HH AA R B ER"], "side": ["S AY D"], "cat": ["K AE T"], "rose": ["R OW Z"]}
    assert pronunciations("Harbour-side", known) == (["HH AA R B ER S AY D"], True)
    assert pronunciations("cat’s", known) == (["K AE T S"], True)
    assert pronunciations("roses", known) == (["R OW Z IH Z"], True)
    assert pronunciations("BBC", known)[0][0] == "B IY B IY S IY"
    assert pronunciations("тест", known) == ([], False)


# pocketsphinx


@pytest.fixture(scope="module")
def sphinx() -> Aligner:
    pytest.importorskip("pocketsphinx", reason="the extra 'offline' is not installed")
    aligner = load_aligner("auto")
    assert aligner is not None
    return aligner


def onset_errors(words: list[Word], truth: list[tuple[int, float]]) -> np.ndarray:
    return np.array([abs(words[number].start - seconds) for number, seconds in truth])


def test_kennedy_is_aligned_to_his_words(sphinx: Aligner, stimuli: Path) -> None:
    track = probe(stimuli / "jfk-speech" / "jfk.wav")[1]
    assert track is not None
    words, notes = align_text(JFK, track, sphinx)
    in_text_order(words, JFK)
    assert len(words) == 22
    assert not notes
    phrases = [(0, 4, 0.3, 2.3), (5, 6, 3.3, 4.4), (7, 13, 5.4, 7.7), (14, 21, 8.2, 10.6)]
    for first, last, start, end in phrases:
        assert words[first].start == pytest.approx(start, abs=0.3)
        assert words[last].end == pytest.approx(end, abs=0.3)
    assert all(word.confidence is not None and word.confidence > 0.3 for word in words)


def test_two_minutes_of_synthetic_speech(sphinx: Aligner) -> None:
    text = sentences(29, seed=3)
    sound, truth = speak(text)
    assert len(sound) > 110 * 16_000
    assert len(truth) > 300
    words, _ = align_text(text, sound, sphinx)
    in_text_order(words, text)
    errors = onset_errors(words, truth)
    assert np.median(errors) < 0.06
    assert np.percentile(errors, 95) < 0.25
    assert sum(word.source == "interpolated" for word in words) < 0.05 * len(words)


@pytest.mark.slow
def test_ten_minutes_of_synthetic_speech(sphinx: Aligner) -> None:
    text = sentences(150)
    sound, truth = speak(text)
    assert len(sound) > 600 * 16_000
    began = time.monotonic()
    words, notes = align_text(text, sound, sphinx)
    print(f"10 min aligned in {time.monotonic() - began:.0f} s;", *notes)
    in_text_order(words, text)
    errors = onset_errors(words, truth)
    assert np.median(errors) < 0.06
    assert np.percentile(errors, 95) < 0.25
    assert sum(word.source == "interpolated" for word in words) < 0.05 * len(words)


def test_text_that_is_not_said_and_sound_that_is_not_in_the_text(sphinx: Aligner) -> None:
    lines = [line + "." for line in sentences(14, seed=5).rstrip(".").split(". ")]
    before, unsaid, after = " ".join(lines[:4]), " ".join(lines[4:8]), " ".join(lines[8:12])
    first, truth_before = speak(before)
    last, truth_after = speak(after)
    noise = np.random.default_rng(0).normal(0, 0.03, 15 * 16_000).astype(np.float32)

    words, notes = align_text(f"{before} {unsaid} {after}", np.concatenate([first, last]), sphinx)
    in_text_order(words, f"{before} {unsaid} {after}")
    a, b = len(spoken_times(before)), len(spoken_times(f"{before} {unsaid}"))
    sources = [word.source for word in words]
    assert sources[a + 2 : b - 2] == ["interpolated"] * (b - a - 4)
    assert any("not found" in note for note in notes)
    shift = len(first) / 16_000
    truth = truth_before + [(number + b, seconds + shift) for number, seconds in truth_after]
    assert np.percentile(onset_errors(words, truth), 90) < 0.25

    words, _ = align_text(f"{before} {after}", np.concatenate([first, noise, last]), sphinx)
    shift += 15
    truth = truth_before + [(number + a, seconds + shift) for number, seconds in truth_after]
    assert np.percentile(onset_errors(words, truth), 90) < 0.25


def test_a_text_of_another_sound_is_flagged(sphinx: Aligner) -> None:
    text = "The doctor never found seven letters near the harbour."
    noise = np.random.default_rng(0).normal(0, 0.05, 8 * 16_000).astype(np.float32)
    for sound in (noise, np.zeros(8 * 16_000, np.float32), noise[:300]):
        words, notes = align_text(text, sound, sphinx)
        in_text_order(words, text)
        assert {word.source for word in words} == {"interpolated"}
        assert words[-1].end <= len(sound) / 16_000 + 1e-9
        assert notes


def test_speech_of_another_text_is_flagged(sphinx: Aligner) -> None:
    lines = [line + "." for line in sentences(40).rstrip(".").split(". ")]
    sound, _ = speak(" ".join(lines[:6]))
    text = " ".join(lines[20:26])
    words, notes = align_text(text, sound, sphinx)
    in_text_order(words, text)
    # A few words may fit by chance, as the voice is never twice quite the same.
    assert sum(word.source == "interpolated" for word in words) > 0.6 * len(words)
    assert any("do not fit" in note for note in notes)


@pytest.mark.parametrize(("score", "fits"), [(-0.5, True), (-8.0, False)])
def test_words_that_fit_their_sound_badly_have_no_place(score: float, fits: bool) -> None:
    decoders = object.__new__(align_sphinx._Decoders)
    decoders.vocabulary = SimpleNamespace(sounds=[4])
    decoders.force = lambda sound, passage: [align_sphinx._Segment(0, 0, 9, score)]
    places = decoders._best(SECOND, Passage(0, 1, 0.0, 1.0), np.zeros(101))
    assert (places is not None) is fits


def test_words_that_no_dictionary_holds(sphinx: Aligner) -> None:
    text = "My youngest sister carried a blimfoozle to the Zorblatt station, тест, in 1969."
    sound, truth = speak(text.replace(", тест,", ""))
    words, notes = align_text(text, sound, sphinx)
    in_text_order(words, text)
    assert [word.text for word in words if word.source == "interpolated"] == ["тест"]
    assert any("'blimfoozle', 'Zorblatt'" in note for note in notes)
    assert any("'тест'" in note for note in notes)
    known = [(n if n < 10 else n + 1, seconds) for n, seconds in truth]
    assert np.max(onset_errors(words, known)) < 0.25


def test_pocketsphinx_says_what_it_cannot_do(
    sphinx: Aligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="English"):
        align_text("Guten Tag", SECOND, sphinx, language="de")
    with pytest.raises(InputError, match="no folder"):
        load_aligner("pocketsphinx:there")
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(InputError, match=r"tribrain\[offline\]"):
        align_text("Good day", SECOND, sphinx)
