"""A voice for a text: espeak-ng and VITS models from a folder."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from tribrain.errors import InputError
from tribrain.stimuli import speaking
from tribrain.stimuli.media import iter_audio, probe
from tribrain.stimuli.reading import Pace
from tribrain.stimuli.speaking import Spoken, speak

TEXT = "The sea, it sang of the moon. Then all were gone in 1984, Mr. Smith said."
LETTERS = "abcdefghijklmnopqrstuvwxyz'"

needs_library = pytest.mark.skipif(
    speaking._espeak_library() is None, reason="the library libespeak-ng is not installed"
)
needs_program = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)


def sound_of(spoken: Spoken) -> tuple[int, np.ndarray]:
    rate, samples = wavfile.read(spoken.path)
    assert samples.ndim == 1
    assert samples.dtype == np.int16
    return rate, samples.astype(float) / 32768


def texts(spoken: Spoken) -> list[str]:
    assert spoken.words is not None
    return [word.text for word in spoken.words]


def loudness(spoken: Spoken, first: float, last: float) -> float:
    rate, samples = sound_of(spoken)
    part = samples[round(first * rate) : round(last * rate)]
    return float(np.sqrt(np.mean(part**2))) if len(part) else 0.0


def check_times(spoken: Spoken) -> None:
    rate, samples = sound_of(spoken)
    assert spoken.words
    assert spoken.words[0].start >= 0
    for one, other in itertools.pairwise(spoken.words):
        assert other.start >= one.end - 1e-9
    assert all(word.duration > 0 for word in spoken.words)
    assert spoken.words[-1].end <= len(samples) / rate


# espeak-ng


@needs_library
def test_words_spoken_lie_in_the_voiced_parts(tmp_path):
    spoken = speak(TEXT, folder=tmp_path / "new")
    assert spoken.path == tmp_path / "new" / "speech.wav"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["speech.wav"]
    assert texts(spoken) == [word.text for word in Pace().times(TEXT)]
    check_times(spoken)
    assert "en-us" in spoken.notes[0]
    words = {word.text: word for word in spoken.words}
    assert all(loudness(spoken, word.start, word.end) > 0.01 for word in spoken.words)
    # Silence after a comma and after a full stop, and none of it belongs to a word.
    for before, after in (("sea", "it"), ("moon", "Then")):
        assert words[after].start - words[before].end > 0.08
        middle = (words[before].end + words[after].start) / 2
        assert loudness(spoken, middle - 0.02, middle + 0.02) < 0.01
    assert words["1984"].duration > 3 * words["Then"].duration
    assert words["moon"].source == "synthesised"


@needs_library
def test_words_that_the_voice_runs_together_share_their_time_and_are_flagged(tmp_path):
    spoken = speak("It sang of the moon.", folder=tmp_path)
    _, _, of, the, moon = spoken.words
    assert (of.source, the.source, moon.source) == ("interpolated", "interpolated", "synthesised")
    assert of.end == pytest.approx(the.start, abs=1e-3)
    assert any("2 of the words" in note for note in spoken.notes)


@needs_library
def test_the_same_text_gives_the_same_sound(tmp_path):
    one, other = speak(TEXT, folder=tmp_path / "a"), speak(TEXT, folder=tmp_path / "b")
    assert one.path.read_bytes() == other.path.read_bytes()
    assert one.words == other.words


@needs_library
@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Größe über Straßen zählen."),
        ("ru", "Привет, мир. Как дела?"),
        ("hi", "यह हिन्दी भाषा है।"),
        ("ar", "مرحبا يا عالم."),
        ("he", "שלום עולם טוב."),
        ("zh", "你好，世界。今天很好。"),
        ("ja", "こんにちは世界。"),
        ("th", "สวัสดีครับ"),
    ],
)
def test_words_of_many_languages_come_once_and_in_order(tmp_path, language, text):
    spoken = speak(text, "espeak-ng", language, folder=tmp_path)
    assert texts(spoken) == [word.text for word in Pace().times(text)]
    check_times(spoken)
    if language in ("de", "ru", "hi", "zh"):  # an event for every word
        assert {word.source for word in spoken.words} == {"synthesised"}


@needs_library
def test_a_long_text_in_pieces_keeps_its_times(tmp_path):
    sentence = "The sea sang. "
    once = speak(sentence, folder=tmp_path / "once")
    long = speak(sentence * 150, folder=tmp_path / "long")
    assert texts(long) == texts(once) * 150
    check_times(long)
    for number in (0, 75, 149):  # quiet before a sentence, voice in its last word
        the, _, sang = long.words[3 * number : 3 * number + 3]
        assert loudness(long, sang.start, sang.end) > 0.01
        assert number == 0 or loudness(long, the.start - 0.1, the.start - 0.03) < 0.01


@needs_library
def test_a_text_without_stops_is_cut_between_words(tmp_path, monkeypatch):
    monkeypatch.setattr(speaking, "_LONGEST", 40)
    text = "the sea sang of all the fishermen " * 6
    spoken = speak(text, folder=tmp_path)
    assert texts(spoken) == text.split()
    check_times(spoken)
    pieces = list(speaking._sentences(text.strip(), "en"))
    assert len(pieces) > 4
    assert [word for _, places in pieces for word, _, _ in places] == text.split()
    for piece, places in pieces:
        assert all(piece[first:last] == word for word, first, last in places)


@needs_program
def test_the_program_alone_gives_the_same_sound_without_word_times(tmp_path, monkeypatch):
    text = "The sea, it sang of the moon."
    known = speak(text, folder=tmp_path / "a") if speaking._espeak_library() else None
    monkeypatch.setattr(speaking, "_espeak_library", lambda: None)
    spoken = speak(text, folder=tmp_path / "b")
    assert spoken.words is None
    assert any("does not tell" in note for note in spoken.notes)
    rate, samples = sound_of(spoken)
    assert len(samples) > rate
    if known is not None:
        assert known.path.read_bytes() == spoken.path.read_bytes()


@needs_program
@pytest.mark.parametrize("library", [True, False])
def test_a_voice_that_espeak_does_not_have_is_refused(tmp_path, monkeypatch, library):
    if not library:
        monkeypatch.setattr(speaking, "_espeak_library", lambda: None)
    elif speaking._espeak_library() is None:
        pytest.skip("the library libespeak-ng is not installed")
    with pytest.raises(InputError, match=r"no voice 'zz'.*--voices"):
        speak("The sea.", "espeak-ng:zz", folder=tmp_path)
    assert not list(tmp_path.iterdir())


@needs_program
def test_what_looks_like_a_command_or_a_code_is_only_text(tmp_path, monkeypatch):
    monkeypatch.setattr(speaking, "_espeak_library", lambda: None)
    monkeypatch.chdir(tmp_path)
    spoken = speak("--version; touch made $(touch made) [[f'ut]]", folder=tmp_path / "out")
    rate, samples = sound_of(spoken)
    assert len(samples) > rate
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_espeak_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(speaking, "_espeak_library", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="apt install espeak-ng"):
        speak("The sea.", folder=tmp_path)


@pytest.mark.parametrize(
    "voice", ["", "nobody", "espeak-ng:../de", "espeak-ng:-w", "espeak-ng:de -w x"]
)
def test_an_unknown_voice_is_refused(tmp_path, voice):
    with pytest.raises(InputError) as error:
        speak("The sea.", voice, folder=tmp_path)
    assert len(str(error.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "... — !"])
def test_a_text_without_words_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="no words"):
        speak(text, folder=tmp_path)


def test_events_that_point_at_the_space_before_a_word_are_those_of_the_word():
    piece, places = "in 1984 so", [("in", 0, 2), ("1984", 3, 7), ("so", 8, 10)]
    samples = np.full(1000, 9, np.int16)
    events = [(1, 0), (3, 100), (4, 300), (4, 500), (9, 700)]
    words = speaking._from_events(piece, places, events, samples, 1000)
    assert words == [("in", 0, 100, True), ("1984", 100, 700, True), ("so", 700, 1000, True)]


def test_words_before_the_first_event_and_after_the_last_are_interpolated():
    piece, places = "a b c d", [(word, 2 * n, 2 * n + 1) for n, word in enumerate("abcd")]
    samples = np.full(1000, 9, np.int16)
    words = speaking._from_events(piece, places, [(5, 400)], samples, 1000)
    assert [(word, own) for word, _, _, own in words] == [(w, False) for w in "abcd"]
    assert [first for _, first, _, _ in words] == [0, 200, 400, 700]


# VITS


@pytest.fixture(scope="module")
def vits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random VITS model that knows Latin letters in lower case."""
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    folder = tmp_path_factory.mktemp("voices") / "tiny-vits"
    folder.mkdir()
    signs = ["|", *LETTERS, " "]
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({sign: number for number, sign in enumerate(signs)}))
    tokenizer = VitsTokenizer(
        str(vocabulary), pad_token="|", unk_token="|", phonemize=False, normalize=True
    )
    torch.manual_seed(1)
    config = VitsConfig(
        vocab_size=len(signs),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        flow_size=16,
        spectrogram_bins=9,
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=2,
        duration_predictor_filter_channels=16,
        wavenet_dilation_rate=1,
        upsample_initial_channel=16,
        upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
        sampling_rate=8000,
    )
    VitsModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_vits_model_speaks_from_its_folder(vits, tmp_path):
    text = "The sea sang. Then 7 fishermen came!"
    spoken = speak(text, str(vits), folder=tmp_path)
    assert texts(spoken) == "The sea sang Then 7 fishermen came".split()
    check_times(spoken)
    assert sound_of(spoken)[0] == 8000
    # The voice knows no figures, so that the words of that sentence cannot be told apart.
    assert [word.source for word in spoken.words] == ["synthesised"] * 3 + ["interpolated"] * 4
    assert spoken.words[3].start - spoken.words[2].end > 0.599  # the pause between sentences
    assert any("tiny-vits" in note for note in spoken.notes)
    assert any("4 of the words have no time" in note for note in spoken.notes)
    assert "the voice has no sound for: 7" in spoken.notes
    video, audio = probe(spoken.path)
    assert video is None
    assert np.abs(next(iter_audio(audio, [(0, audio.duration)]))).max() > 0.001


def test_words_last_as_long_as_the_vits_model_makes_their_letters(vits, tmp_path, monkeypatch):
    model, tokenizer = speaking._load_vits(vits)

    def two_frames(hidden: torch.Tensor, mask: torch.Tensor, *args: object, **kwargs: object):
        return torch.full_like(mask, 0.4)  # ceil(exp(0.4)) = 2 frames of 64 samples

    monkeypatch.setattr(model.duration_predictor, "forward", two_frames)
    monkeypatch.setattr(speaking, "_load_vits", lambda folder: (model, tokenizer))
    spoken = speak("“The sea!” Go.", str(vits), folder=tmp_path)
    frame = 2 * 64 / 8000  # seconds of a sign; a blank before, between and after the letters
    expected = [("The", 1, 6), ("sea", 9, 14)]
    for word, (text, first, last) in zip(spoken.words, expected, strict=False):
        assert (word.text, word.source) == (text, "synthesised")
        assert word.start == pytest.approx(first * frame)
        assert word.end == pytest.approx(last * frame)
    assert spoken.words[2].start == pytest.approx(15 * frame + 0.6 + frame)
    assert not any("spread" in note for note in spoken.notes)


def test_a_vits_model_says_the_same_again_and_leaves_the_generator_alone(vits, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = speak(TEXT, str(vits), folder=tmp_path / "a")
    assert torch.rand(1) == expected
    other = speak(TEXT, str(vits), folder=tmp_path / "b")
    assert one.path.read_bytes() == other.path.read_bytes()
    assert one.words == other.words


def test_sentences_spoken_one_by_one_are_those_of_the_whole(vits, tmp_path):
    both = sound_of(speak("The sea. It sang.", str(vits), folder=tmp_path / "ab"))[1]
    alone = [
        sound_of(speak(part, str(vits), folder=tmp_path / part[:2]))[1]
        for part in ("The sea.", "It sang.")
    ]
    assert np.array_equal(both, np.concatenate(alone))


def test_a_sentence_that_the_voice_cannot_say_is_left_out_with_a_note(vits, tmp_path):
    spoken = speak("你好。 The sea.", str(vits), folder=tmp_path)
    assert texts(spoken) == ["The", "sea"]
    assert any("1 sentence holds no character" in note for note in spoken.notes)
    with pytest.raises(InputError, match="knows no character"):
        speak("你好。", str(vits), folder=tmp_path)


def test_a_voice_without_safetensors_or_weights_or_of_another_type_is_refused(vits, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(vits, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, bare / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        speak("The sea.", str(bare), folder=tmp_path / "out")
    from safetensors.torch import load_file, save_file

    weights = load_file(vits / "model.safetensors")
    weights = {k: v for k, v in weights.items() if "text_encoder.embed_tokens" not in k}
    save_file(weights, bare / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="1 weights are missing"):
        speak("The sea.", str(bare), folder=tmp_path / "out")
    (bare / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InputError, match=r"'llama'; valid: 'vits'"):
        speak("The sea.", str(bare), folder=tmp_path / "out")
    (bare / "config.json").write_text("{")
    with pytest.raises(InputError, match="valid: 'vits'"):
        speak("The sea.", str(bare), folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()
