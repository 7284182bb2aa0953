"""Small random speech models, and a recogniser that hears tones instead of words."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import torch

from tribrain.stimuli.recognition import Recognised
from tribrain.stimuli.words import Word

RATE = 16_000
_STEP = 160  # samples, 10 ms


def make_ctc(folder: Path, letters: str = "ABCDEFGHIJ") -> Path:
    """Write a random wav2vec 2 with a CTC head."""
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
    )

    folder.mkdir(parents=True)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *letters]
    (folder / "vocab.json").write_text(json.dumps({t: n for n, t in enumerate(tokens)}), "utf-8")
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
    )
    model = Wav2Vec2ForCTC(config)
    with torch.no_grad():
        model.lm_head.bias[1:4] = -100.0  # a trained model gives letters, not these
    model.save_pretrained(folder)
    return folder


def make_whisper(folder: Path, heads: bool = True) -> Path:
    """Write a random Whisper of two languages; without `heads` it gives no word times."""
    from tokenizers import pre_tokenizers
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    folder.mkdir(parents=True)
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|translate|>"]
    special += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    special += ["<|notimestamps|>"]
    stamps = [f"<|{0.02 * n:.2f}|>" for n in range(1501)]
    text = sorted(pre_tokenizers.ByteLevel.alphabet())
    number = {token: n for n, token in enumerate([*text, *special, *stamps])}
    tokenizer = WhisperTokenizer(vocab={t: number[t] for t in text}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens(stamps)
    tokenizer.save_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids(list(number)) == list(number.values())
    WhisperFeatureExtractor().save_pretrained(folder)
    torch.manual_seed(0)
    end = number["<|endoftext|>"]
    config = WhisperConfig(
        vocab_size=len(number),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=64,
        decoder_start_token_id=number["<|startoftranscript|>"],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        init_std=1.0,
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=number["<|startoftranscript|>"],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        max_length=24,
        is_multilingual=True,
        lang_to_id={t: number[t] for t in ("<|en|>", "<|fr|>")},
        task_to_id={t.strip("<|>"): number[t] for t in ("<|translate|>", "<|transcribe|>")},
        no_timestamps_token_id=number["<|notimestamps|>"],
        **({"alignment_heads": [[0, 0], [0, 1]]} if heads else {}),
    )
    model.save_pretrained(folder)
    return folder


def make_moonshine(folder: Path) -> Path:
    """Write a random Moonshine, which gives text without times."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        MoonshineConfig,
        MoonshineForConditionalGeneration,
        PreTrainedTokenizerFast,
        Wav2Vec2FeatureExtractor,
    )

    tokens = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={t: n for n, t in enumerate(tokens)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    torch.manual_seed(0)
    config = MoonshineConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=32,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        max_position_embeddings=64,
        initializer_range=1.0,
    )
    model = MoonshineForConditionalGeneration(config)
    model.generation_config.max_length = 20
    model.save_pretrained(folder)
    return folder


class ToneRecogniser:
    """Hears each stretch of one pitch as a word that names the pitch, however little it hears.

    It keeps what it was asked, and adds words of its own making at the moments in `invents`.
    """

    name = "tones"

    def __init__(self, invents: tuple[float, ...] = (), tells: tuple[str, ...] = ()) -> None:
        self.invents, self.tells = invents, list(tells)
        self.lengths: list[float] = []
        self.languages: list[str | None] = []

    def recognise(self, sound: np.ndarray, language: str | None) -> Recognised:
        assert sound.dtype == np.float32
        assert sound.ndim == 1
        self.lengths.append(len(sound) / RATE)
        self.languages.append(language)
        words = [Word(*found, 0.9, "recognised") for found in heard_tones(sound)]
        words += [Word("phantom", at, 0.2, 0.5, "recognised") for at in self.invents]
        return Recognised(tuple(words), language or (self.tells.pop(0) if self.tells else None))


def heard_tones(sound: np.ndarray) -> list[tuple[str, float, float]]:
    """Name, start and duration of every stretch of one pitch."""
    frames = sound[: len(sound) // _STEP * _STEP].reshape(-1, _STEP)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(_STEP)))
    pitch = np.where(np.abs(frames).max(axis=1) > 0.05, spectrum.argmax(axis=1), 0)
    edges = [0, *(np.flatnonzero(np.diff(pitch)) + 1), len(pitch)]
    found = []
    for first, last in itertools.pairwise(edges):
        if last > first and pitch[first] and last - first >= 4:
            name = f"{pitch[first] * RATE // _STEP} Hz"
            found.append((name, first * _STEP / RATE, (last - first) * _STEP / RATE))
    return found


def tones(words: list[tuple[int, float, float]], seconds: float) -> np.ndarray:
    """Tones of (frequency in Hz, a multiple of 100; start; duration) in silence."""
    sound = np.zeros(round(seconds * RATE), np.float32)
    for hertz, start, duration in words:
        first, last = round(start * RATE), round((start + duration) * RATE)
        time = np.arange(first, last) / RATE
        sound[first:last] = 0.5 * np.sin(2 * np.pi * hertz * time)
    return sound
