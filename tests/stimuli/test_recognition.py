"""Words of a sound of any length, each once and in its place; recognisers and how they load."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
import tracemalloc
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

import makers
from recogniser_makers import (
    RATE,
    ToneRecogniser,
    heard_tones,
    make_ctc,
    make_moonshine,
    make_whisper,
    tones,
)
from tribrain.errors import InputError
from tribrain.stimuli import recognise_sound, recognition
from tribrain.stimuli.media import probe
from tribrain.stimuli.recognise_transformers import ctc_words
from tribrain.stimuli.recognition import (
    RECOGNISERS,
    Recognised,
    Recogniser,
    known_recognisers,
    load_recogniser,
    recognise_track,
)
from tribrain.stimuli.speech import LoudnessGate
from tribrain.stimuli.tracks import AudioTrack
from tribrain.stimuli.words import Word

JFK = (
    "and so my fellow americans ask not what your country can do for you ask what you can do "
    "for your country"
)


def installed(package: str) -> pytest.MarkDecorator:
    there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not there, reason=f"{package} is not installed")


def track_of(path: Path) -> AudioTrack:
    track = probe(path)[1]
    assert track is not None
    return track


def sung(words: Iterable[Word]) -> list[str]:
    return [word.text for word in words]


def edits(expected: list[str], found: list[str]) -> int:
    """Words to put in, take out or change."""
    row = list(range(len(found) + 1))
    for i, a in enumerate(expected, start=1):
        above, row = row, [i]
        for j, b in enumerate(found, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
    return row[-1]


def melody(seconds: float, seed: int, unbroken: float) -> list[tuple[int, float, float]]:
    """Tones of 0.2 to 0.6 s, some in long runs without a pause, some with pauses up to 4 s."""
    generator = np.random.default_rng(seed)
    played, now, last = [], 0.7, 0
    while now < seconds - 1:
        for _ in range(int(generator.integers(1, 200 if generator.random() < unbroken else 8))):
            hertz = 100 * int(generator.integers(3, 30))
            hertz = hertz + 3000 if hertz == last else hertz
            length = float(generator.integers(20, 60)) / 100
            if now + length > seconds - 0.5:
                break
            played.append((hertz, round(now, 2), length))
            now, last = now + length, hertz
        now += float(generator.integers(5, 400 if generator.random() < 0.1 else 60)) / 100
    return played


# A sound of any length


@pytest.mark.parametrize(("seed", "unbroken"), [(0, 0.0), (1, 0.2)])
def test_ten_minutes_in_pieces_give_each_word_once_and_in_its_place(
    tmp_path: Path, seed: int, unbroken: float
) -> None:
    played = melody(600, seed, unbroken)
    track = track_of(makers.write_sound(tmp_path / "long.wav", tones(played, 600), RATE))
    heard = {}
    for longest in (30.0, 6.0, math.inf):
        recogniser = ToneRecogniser()
        result = recognise_track(track, recogniser, gate=LoudnessGate(), longest=longest)
        heard[longest] = result.words
        assert max(recogniser.lengths) <= longest
        assert sung(result.words) == [f"{hertz} Hz" for hertz, _, _ in played]
        off = [word.start - start for word, (_, start, _) in zip(result.words, played, strict=True)]
        assert np.abs(off).max() < 0.03
        assert result.notes == ()
    assert len(played) > 1000
    assert sung(heard[30.0]) == sung(heard[math.inf])
    if unbroken:  # else the pieces were not cut in unbroken sound, which is the hard case
        assert max(b[1] - a[1] for a, b in itertools.pairwise(played)) > 1
        assert max(recogniser.lengths) > 40


def test_words_are_on_the_stimulus_clock(tmp_path: Path) -> None:
    played = [(500, 2.0, 0.5), (700, 2.6, 0.5), (900, 40.0, 0.5)]
    path = makers.write_sound(tmp_path / "late.wav", tones(played, 45), RATE)
    early = track_of(path)
    late = AudioTrack(path, early.stream, 1.25, early.duration, RATE, 1, early.origin)
    seen: list[tuple[str, int, int]] = []
    words = recognise_track(
        late, ToneRecogniser(), None, lambda *step: seen.append(step), gate=LoudnessGate()
    ).words
    assert [word.start for word in words] == pytest.approx([3.25, 3.85, 41.25], abs=0.02)
    assert {word.source for word in words} == {"recognised"}
    for what, total in (("speech", 45), ("words", 1)):
        steps = [(done, of) for name, done, of in seen if name == what]
        assert steps == sorted(steps)
        assert steps[-1] == (total, total)


def test_words_heard_in_silence_are_dropped_and_counted(tmp_path: Path) -> None:
    played = [(500, 3.0, 0.4), (700, 3.6, 0.4)]
    track = track_of(makers.write_sound(tmp_path / "two.wav", tones(played, 10), RATE))
    # Heard from 2.5 s on: the first lies before all speech, the second within it, the third after.
    recogniser = ToneRecogniser(invents=(0.0, 0.9, 1.8))
    result = recognise_track(track, recogniser, gate=LoudnessGate())
    assert sung(result.words) == ["500 Hz", "phantom", "700 Hz"]
    (note,) = result.notes
    assert note == "2 words were recognised where there is no speech, and left out"


def test_no_speech_costs_nothing_and_is_said(tmp_path: Path) -> None:
    recogniser = ToneRecogniser()
    track = track_of(makers.write_sound(tmp_path / "silence.wav", np.zeros(5 * RATE), RATE))
    result = recognise_track(track, recogniser, "en-GB", gate=LoudnessGate())
    assert result.words == ()
    assert result.language == "en"
    assert recogniser.lengths == []
    assert "no words: no speech was found" in result.notes[0]


def test_speech_in_which_no_word_is_heard_is_said(tmp_path: Path) -> None:
    noise = 0.3 * np.random.default_rng(0).standard_normal(2 * RATE)
    sound = np.concatenate([np.zeros(RATE), noise, np.zeros(RATE)])
    track = track_of(makers.write_sound(tmp_path / "noise.wav", sound, RATE))

    class Deaf:
        name = "deaf"

        def recognise(self, sound: np.ndarray, language: str | None) -> Recognised:
            return Recognised((), None, ("heard nothing",))

    result = recognise_track(track, Deaf(), gate=LoudnessGate())
    assert result.words == ()
    assert result.notes == ("heard nothing", "no words: none was recognised in the 2.0 s of speech")


def test_short_pieces_are_in_the_language_of_the_last_long_one(tmp_path: Path) -> None:
    played = []
    for start, length in ((1, 6), (12, 1), (20, 9), (34, 2)):
        played += [(400 + 100 * (n % 2), start + n / 4, 0.25) for n in range(4 * length)]
    track = track_of(makers.write_sound(tmp_path / "two.wav", tones(played, 40), RATE))
    recogniser = ToneRecogniser(tells=("fr", "de"))
    result = recognise_track(track, recogniser, gate=LoudnessGate())
    assert recogniser.languages == [None, "fr", None, "de"]
    assert result.language == "de"
    assert result.notes == ("speech was heard in several languages: de (11 s), fr (7 s)",)
    recogniser = ToneRecogniser()
    assert recognise_track(track, recogniser, "pt_BR", gate=LoudnessGate()).language == "pt"
    assert recogniser.languages == ["pt"] * 4


def test_three_hours_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    second = tones([(500, 0.0, 0.5), (600, 0.5, 0.5)], 1)
    silence = np.zeros_like(second)
    asked = 0

    def endless(
        track: AudioTrack, spans: Iterable[tuple[float, float]], *, mono: bool = False
    ) -> Iterator[np.ndarray]:
        nonlocal asked
        assert mono
        for start, _ in spans:
            asked += 1
            yield (second if start % 100 < 45 else silence)[None].copy()

    class Counts:
        name = "counts"
        words = 0

        def recognise(self, sound: np.ndarray, language: str | None) -> Recognised:
            return Recognised(tuple(Word(*w) for w in heard_tones(sound)), None)

    monkeypatch.setattr(recognise_sound, "iter_audio", endless)
    track = AudioTrack(Path("none.wav"), 0, 0.0, 3 * 3600.0, RATE, 1)
    tracemalloc.start()
    result = recognise_track(track, Counts(), gate=LoudnessGate())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(result.words) == 108 * 90
    assert asked > 2 * 10_700
    assert peak < 40e6  # all of it would be 690 MB


# Real sounds


@pytest.fixture(scope="module")
def sphinx() -> Recogniser:
    recogniser = load_recogniser("pocketsphinx", "cpu")
    assert recogniser is not None
    return recogniser


@installed("pocketsphinx")
@installed("silero_vad")
def test_pocketsphinx_hears_most_words_of_a_speech(stimuli: Path, sphinx: Recogniser) -> None:
    track = track_of(stimuli / "jfk-speech/jfk.wav")
    result = recognise_track(track, sphinx)
    assert edits(JFK.split(), sung(result.words)) <= 7  # of 22
    assert result.language == "en"
    assert "mishears" in result.notes[0]
    assert all(0 <= word.confidence <= 1 for word in result.words if word.confidence is not None)
    phrases = [(0.3, 2.3), (3.3, 4.4), (5.4, 7.7), (8.2, 10.6)]
    for word in result.words:
        assert any(first - 0.3 < word.start and word.end < last + 0.3 for first, last in phrases)
    # The same words whatever was heard before: nothing of a sound stays for the next.
    sound = next(recognise_sound.sound_at_16k(track, [(5 * RATE, 8 * RATE)]))
    first = sphinx.recognise(sound, None).words
    assert len(first) > 4
    sphinx.recognise(np.random.default_rng(0).standard_normal(RATE).astype(np.float32), None)
    assert sphinx.recognise(sound, None).words == first


@installed("pocketsphinx")
@installed("silero_vad")
def test_narration_is_heard_within_its_captions(stimuli: Path, sphinx: Recogniser) -> None:
    folder = stimuli / "nasa-webb-13s"
    heard = recognise_track(track_of(folder / "nasa_13013.mp4"), sphinx).words
    rows = [line.split("\t") for line in (folder / "transcript.tsv").read_text("utf-8").split("\n")]
    for start, end, text in rows[1:4]:
        spoken = {word.strip(".,").lower() for word in text.split()}
        within = [w for w in heard if float(start) - 0.5 < w.start and w.end < float(end) + 0.5]
        assert len(spoken & set(sung(within))) >= 4
    assert all(later.start >= word.start for word, later in itertools.pairwise(heard))


@installed("silero_vad")
def test_a_film_without_speech_has_no_words(stimuli: Path) -> None:
    recogniser = ToneRecogniser()
    track = track_of(stimuli / "big-buck-bunny-30s/big_buck_bunny_0_30.webm")
    result = recognise_track(track, recogniser)
    assert result.words == ()
    assert recogniser.lengths == []
    assert result.notes == ("no words: no speech was found in the sound (by silero-vad)",)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@installed("pocketsphinx")
@installed("silero_vad")
@pytest.mark.parametrize(("times", "longest"), [(2, 15.0), (55, 30.0)])
def test_speech_heard_whole_and_in_pieces_agrees(
    stimuli: Path, sphinx: Recogniser, tmp_path: Path, times: int, longest: float
) -> None:
    track = track_of(stimuli / "jfk-speech/jfk.wav")
    once = next(recognise_sound.sound_at_16k(track, [(0, 11 * RATE)]))
    path = makers.write_sound(tmp_path / "long.wav", np.tile(once, times), RATE)
    whole, pieces = (
        sung(recognise_track(track_of(path), sphinx, longest=length).words)
        for length in (math.inf, longest)
    )
    assert len(whole) > 18 * times
    assert edits(whole, pieces) <= 0.1 * len(whole)


# Loading


def test_recognisers_are_named_in_what_is_said_of_a_wrong_one() -> None:
    assert load_recogniser("none", "cpu") is None
    assert {spec.partition(":")[0] for spec in known_recognisers()} == {
        "auto",
        "none",
        *RECOGNISERS,
    }
    wrong = ("sphinx", "", "faster-whisper", "transformers:", "pocketsphinx:en", "none:x")
    for spec in wrong:
        with pytest.raises(InputError, match="known: auto, none, faster-whisper:FOLDER_OR_NAME"):
            load_recogniser(spec, "cpu")


def test_a_missing_package_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(InputError, match=r"pip install 'tribrain\[offline\]'"):
        load_recogniser("pocketsphinx", "cpu")
    with pytest.raises(InputError, match=r"pip install 'tribrain\[asr\]'"):
        load_recogniser("faster-whisper:small", "cpu")


def test_auto_takes_what_is_there_and_fits_the_language(
    monkeypatch: pytest.MonkeyPatch, whisper: dict[str, Path]
) -> None:
    there = {"faster_whisper", "pocketsphinx"}
    monkeypatch.setattr(
        recognition,
        "importlib",
        types.SimpleNamespace(
            util=types.SimpleNamespace(find_spec=lambda name: name if name in there else None)
        ),
    )
    monkeypatch.setattr(recognition, "_load_pocketsphinx", lambda where, device: ToneRecogniser())

    def name(language: str | None) -> str | None:
        found = load_recogniser("auto", "cpu", language)
        return found and found.name

    assert name(None) == "tones"  # no Whisper is in the cache
    assert name("en-US") == "tones"
    assert name("fr") is None
    whisper["small.en"] = FakeWhisper.folder
    assert name("fr") is None
    assert name("en") == "faster-whisper:model"
    whisper["tiny"] = FakeWhisper.folder
    assert name("fr") == "faster-whisper:model"
    there.clear()
    assert name(None) is None


# faster-whisper, with a stand-in for its model


class FakeWhisper:
    """What faster-whisper's WhisperModel takes and gives."""

    folder: Path
    made: dict[str, object]
    asked: dict[str, object]
    knows = ("en", "fr")

    def __init__(self, model_size_or_path: str, **options: object) -> None:
        type(self).made = {"path": model_size_or_path, **options}

    def transcribe(
        self, audio: np.ndarray, language: str | None = None, **options: object
    ) -> tuple[Iterator[object], object]:
        type(self).asked = {"language": language, **options}
        if language is not None and language not in self.knows:
            raise ValueError(f"'{language}' is not a valid language code (en, fr)\nand more")
        segment, word = types.SimpleNamespace, types.SimpleNamespace
        words = [
            word(start=np.float64(0.5), end=np.float64(0.9), word=" Bonjour,", probability=0.75),
            word(start=0.9, end=0.9, word=" ", probability=0.1),
            word(start=1.0, end=1.5, word=" monde", probability=1.0001),
        ]
        lines = [
            segment(start=0.5, end=1.5, text=" Bonjour, monde", words=words, avg_logprob=-0.1),
            segment(start=2.0, end=3.0, text=" la mer", words=None, avg_logprob=math.log(0.5)),
        ]
        return iter(lines), types.SimpleNamespace(language=language or "fr")


@pytest.fixture
def whisper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """A stand-in for the package; what is put into the result is in its cache."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    FakeWhisper.folder, FakeWhisper.knows = folder, ("en", "fr")
    cache: dict[str, Path] = {}

    def download_model(name: str, local_files_only: bool = False) -> Path:
        if name not in cache:
            raise ConnectionError("no network")
        return cache[name]

    package = types.ModuleType("faster_whisper")
    package.__dict__.update(
        WhisperModel=FakeWhisper,
        download_model=download_model,
        available_models=lambda: ["tiny.en", "tiny", "small.en", "small"],
    )
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    return cache


def test_faster_whisper_gives_words_with_times_and_probabilities(whisper: dict[str, Path]) -> None:
    recogniser = load_recogniser(f"faster-whisper:{FakeWhisper.folder}", "cpu")
    assert recogniser is not None
    assert recogniser.name == "faster-whisper:model"
    assert FakeWhisper.made["compute_type"] == "int8"
    assert FakeWhisper.made["local_files_only"] is True
    result = recogniser.recognise(np.zeros(3 * RATE, np.float32), None)
    assert FakeWhisper.asked["word_timestamps"] is True
    assert FakeWhisper.asked["language"] is None
    assert result.language == "fr"
    assert result.words[:2] == (
        Word("Bonjour,", 0.5, 0.4, 0.75, "recognised"),
        Word("monde", 1.0, 0.5, 1.0, "recognised"),
    )
    assert result.words[2:] == (
        Word("la", 2.0, 0.5, pytest.approx(0.5), "interpolated"),
        Word("mer", 2.5, 0.5, pytest.approx(0.5), "interpolated"),
    )
    assert result.notes == ("lines without word times were spread over their spans by syllables",)
    with pytest.raises(InputError, match=r"^language 'xx': 'xx' is not a valid .* \(en, fr\)$"):
        recogniser.recognise(np.zeros(RATE, np.float32), "xx")
    load_recogniser(f"faster-whisper:{FakeWhisper.folder}", "cuda")
    assert FakeWhisper.made["compute_type"] == "float16"
    assert FakeWhisper.made["device"] == "cuda"


def test_faster_whisper_takes_whole_folders_and_named_models_alone(
    whisper: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="'small' is not on this machine and cannot be fetched"):
        load_recogniser("faster-whisper:small", "cpu")
    whisper["small"] = FakeWhisper.folder
    named = load_recogniser("faster-whisper:small", "cpu")
    assert named is not None
    assert named.name == "faster-whisper:small"
    for wrong in ("smal", "./small", "a/b/c", "/nowhere/model"):
        with pytest.raises(InputError, match=r"neither a folder nor a model .*tiny\.en"):
            load_recogniser(f"faster-whisper:{wrong}", "cpu")
    # Without its tokenizer, the package would fetch one.
    (FakeWhisper.folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"no model in CTranslate2 format: tokenizer\.json"):
        load_recogniser(f"faster-whisper:{FakeWhisper.folder}", "cpu")


@installed("faster_whisper")
def test_a_folder_that_ctranslate2_cannot_read_is_said_in_one_line(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded: ") as caught:
        load_recogniser(f"faster-whisper:{tmp_path}", "cpu")
    assert "\n" not in str(caught.value)


# pocketsphinx


@installed("pocketsphinx")
def test_pocketsphinx_knows_english_alone(sphinx: Recogniser) -> None:
    with pytest.raises(InputError, match="English alone, not 'fr'"):
        sphinx.recognise(np.zeros(RATE, np.float32), "fr")
    assert sphinx.recognise(np.zeros(RATE, np.float32), "en-GB").language == "en"


# Models of transformers


def posteriors(frames: str, tokens: str) -> np.ndarray:
    """Probability 0.8 for the token of each frame."""
    values = np.full((len(frames), len(tokens)), 0.2 / (len(tokens) - 1))
    for number, token in enumerate(frames):
        values[number, tokens.index(token)] = 0.8
    return values


def test_letters_of_frames_become_words() -> None:
    tokens = "_|abc?海の"
    found = list(
        ctc_words(posteriors("__aa_ab|_|bb?b__c海海_の|", tokens), tokens, 0, "|", {"?"}, 0.02)
    )
    assert [word.text for word in found] == ["aab", "bbc", "海", "の"]
    spans = [(round(word.start / 0.02), round(word.end / 0.02)) for word in found]
    assert spans == [(2, 7), (10, 17), (17, 19), (20, 21)]
    assert all(word.confidence == pytest.approx(0.8) for word in found)
    pieces = ["_", "▁the", "▁se", "a"]
    scores = np.eye(4)[[1, 1, 0, 2, 3, 3, 0]]
    assert [w.text for w in ctc_words(scores, pieces, 0, None, set(), 1.0)] == ["the", "sea"]
    assert list(ctc_words(np.zeros((0, 4)), pieces, 0, None, set(), 1.0)) == []


def test_a_ctc_model_gives_the_words_that_its_own_tokenizer_gives(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, Wav2Vec2ForCTC

    folder = make_ctc(tmp_path / "tiny-ctc")
    recogniser = load_recogniser(f"transformers:{folder}", "cpu")
    assert recogniser is not None
    assert recogniser.name == "transformers:tiny-ctc"
    sound = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    result = recogniser.recognise(sound, "de")
    assert result.language == "de"
    assert "capital letters alone" in result.notes[0]
    standardised = torch.from_numpy((sound - sound.mean()) / np.sqrt(sound.var() + 1e-7))[None]
    with torch.inference_mode():
        best = Wav2Vec2ForCTC.from_pretrained(folder)(standardised).logits[0].argmax(-1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = tokenizer.decode(best, output_word_offsets=True).word_offsets
    assert len(expected) > 5
    assert sung(result.words) == [word["word"].lower() for word in expected]
    starts = [0.02 * word["start_offset"] for word in expected]
    assert [word.start for word in result.words] == pytest.approx(starts)
    assert recogniser.recognise(sound[:100], None).language is None  # shorter than a frame


@pytest.mark.filterwarnings("ignore:std..:UserWarning")
def test_whisper_of_transformers_loads_and_tells_the_language(tmp_path: Path) -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    for heads, source in ((True, "recognised"), (False, "interpolated")):
        folder = make_whisper(tmp_path / f"whisper-{source}", heads)
        recogniser = load_recogniser(f"transformers:{folder}", "cpu")
        assert recogniser is not None
        result = recogniser.recognise(sound, None)
        assert result.language in ("en", "fr")
        assert result.words
        assert {word.source for word in result.words} == {source}
        assert all(0 <= word.start <= word.end <= 3 for word in result.words)
        assert bool(result.notes) is not heads
        assert recogniser.recognise(sound, "en").language == "en"
        with pytest.raises(InputError, match="does not know language 'de'; en, fr"):
            recogniser.recognise(sound, "de")


def test_text_without_times_is_spread_over_the_sound_and_said(tmp_path: Path) -> None:
    recogniser = load_recogniser(f"transformers:{make_moonshine(tmp_path / 'moon')}", "cpu")
    assert recogniser is not None
    sound = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    result = recogniser.recognise(sound, "en")
    assert {word.source for word in result.words} == {"interpolated"}
    assert result.words[0].start == 0
    assert result.words[-1].end == pytest.approx(3)
    assert "gives no word times" in result.notes[0]


def test_a_folder_that_is_no_recogniser_is_said_in_one_line(
    tmp_path: Path, backbones: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    with pytest.raises(InputError, match=r"holds no config\.json"):
        load_recogniser(f"transformers:{tmp_path}", "cpu")
    with pytest.raises(InputError, match=r"type 'llama' is not known; known: .*wav2vec2.*whisper"):
        load_recogniser(f"transformers:{backbones / 'tiny-llama'}", "cpu")
    # A speech model that was never taught to spell.
    with pytest.raises(InputError) as caught:
        load_recogniser(f"transformers:{backbones / 'tiny-w2v-bert'}", "cpu")
    assert "\n" not in str(caught.value)
    # Weights that could run code when they are read.
    pickled = make_ctc(tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(InputError, match="safetensors"):
        load_recogniser(f"transformers:{pickled}", "cpu")


def test_a_model_without_its_spelling_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_ctc(tmp_path / "headless")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("lm_head")}
    assert len(kept) == len(weights) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"2 weights are missing, lm_head\.bias the first"):
        load_recogniser(f"transformers:{folder}", "cpu")
