"""Alignment with a CTC speech model, such as wav2vec 2 fine-tuned on a language."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tribrain.errors import InputError
from tribrain.stimuli.align_sound import SAMPLE_RATE
from tribrain.stimuli.alignment import Place
from tribrain.stimuli.viterbi import ctc_align, frames_needed

_CHUNK = 20.0  # seconds of sound that give frames at once
_MARGIN = 2.0  # seconds before and after them that the model hears as well
_LEAST = 0.01  # mean probability of a word's characters; below it the word was hardly said


class CtcAligner:
    """Aligns text to the characters that a speech model hears, frame by frame.

    Parameters
    ----------
    model : torch.nn.Module
        Takes sound (1, samples) and returns an object with ``logits`` (1, frames, symbols).
    vocabulary : mapping from character to symbol
    blank : int
        The symbol for no character.
    stride : int
        Samples from one frame to the next.
    border : str
        Character that parts words; none is put between them if the vocabulary lacks it.
    normalised : bool
        Whether the model takes sound of mean 0 and variance 1 (of the whole sound).
    chunk, margin : float
        Seconds. The model hears `chunk` with `margin` on either side at a time, so that memory
        does not grow with the sound; frames of the margins are thrown away.
    """

    name = "ctc"

    def __init__(
        self,
        model: torch.nn.Module,
        vocabulary: Mapping[str, int],
        blank: int,
        stride: int,
        *,
        border: str = "|",
        normalised: bool = True,
        chunk: float = _CHUNK,
        margin: float = _MARGIN,
    ) -> None:
        self.model, self.vocabulary, self.blank = model, dict(vocabulary), blank
        self.stride, self.border, self.normalised = stride, border, normalised
        # Neither the blank nor the border is a character, and "<unk>" and its like are none.
        self._symbols = {
            character: symbol
            for character, symbol in self.vocabulary.items()
            if len(character) == 1 and symbol != blank and character != border
        }
        self.chunk = max(1, round(chunk * SAMPLE_RATE / stride))  # frames
        self.margin = round(margin * SAMPLE_RATE / stride)

    def align(
        self, words: Sequence[str], sound: np.ndarray, language: str
    ) -> tuple[list[Place | None], list[str]]:
        """See `tribrain.stimuli.alignment.Aligner`; a word's confidence is the mean of its
        characters' probabilities, and one below 0.01 has no place. A model knows its language
        by its vocabulary.
        """
        spelled = [self.spell(word) for word in words]
        tokens: list[int] = []
        spans: dict[int, tuple[int, int]] = {}  # tokens of each word that has any
        for number, symbols in enumerate(spelled):
            if symbols and tokens and self.border in self.vocabulary:
                tokens.append(self.vocabulary[self.border])
            if symbols:
                spans[number] = (len(tokens), len(tokens) + len(symbols))
                tokens += symbols
        notes = self._notes(words)
        places: list[Place | None] = [None] * len(words)
        log_probs = self.emissions(sound)
        series = np.array(tokens, dtype=np.int64)
        if len(log_probs) < frames_needed(series):
            notes.append(
                f"the text has {len(tokens)} characters, more than {len(sound) / SAMPLE_RATE:.1f} "
                "s of sound can hold"
            )
            return places, notes
        first, last, chance = ctc_align(log_probs, series, self.blank)
        for number, (begin, end) in spans.items():
            confidence = float(chance[begin:end].mean())
            if confidence >= _LEAST:
                places[number] = Place(
                    float(first[begin] * self.stride / SAMPLE_RATE),
                    float((last[end - 1] + 1) * self.stride / SAMPLE_RATE),
                    min(1.0, confidence),
                )
        return places, notes

    def spell(self, word: str) -> list[int]:
        """Symbols of a word; characters that the vocabulary lacks are left out.

        A character is looked for as it is, in upper and lower case, and without its accents.
        """
        symbols: list[int] = []
        for character in unicodedata.normalize("NFC", word.replace("’", "'")):
            parts = unicodedata.normalize("NFKD", character)
            bare = "".join(one for one in parts if not unicodedata.combining(one))
            for form in (character, bare):
                cases = (form, form.upper(), form.lower())
                found = next((self._symbols[one] for one in cases if one in self._symbols), None)
                if found is not None:
                    symbols.append(found)
                    break
        return symbols

    def emissions(self, sound: np.ndarray) -> np.ndarray:
        """Logarithms of the symbols' probabilities, (frames, symbols), float32.

        Frame i begins at sample ``i * stride``.
        """
        wave = torch.from_numpy(np.ascontiguousarray(sound, dtype=np.float32))
        if self.normalised:
            wave = (wave - wave.mean()) / torch.sqrt(wave.var(unbiased=False) + 1e-7)
        total = max(1, len(wave) // self.stride)
        # The last frame hears beyond the sound's end, and so do models of short sounds.
        wave = torch.nn.functional.pad(wave, (0, 2 * self.stride))
        parameter = next(self.model.parameters(), torch.zeros(0))
        made = []
        for start in range(0, total, self.chunk):
            end = min(start + self.chunk, total)
            first = max(0, start - self.margin)
            piece = wave[first * self.stride : (end + self.margin + 1) * self.stride]
            with torch.inference_mode():
                logits = self.model(piece[None].to(parameter)).logits[0]
            held = torch.log_softmax(logits[start - first : end - first].float(), dim=-1).cpu()
            assert len(held) == end - start, "a frame hears less than two strides beyond its own"
            made.append(held.numpy())
        return np.concatenate(made)

    def _notes(self, words: Sequence[str]) -> list[str]:
        lost = sorted({c for word in words for c in word if c.isalnum() and not self.spell(c)})
        notes = []
        if lost:
            some = "".join(lost[:20]) + ("..." if len(lost) > 20 else "")
            notes.append(
                f"{len(lost)} characters of the text are not in the model's vocabulary and do not "
                f"count in the alignment: {some}"
            )
        return notes


def load_ctc(folder: str | Path, device: str = "cpu") -> CtcAligner:
    """Load a CTC model from a folder in Hugging Face format.

    Parameters
    ----------
    folder : path
        With ``config.json``, ``model.safetensors`` and ``vocab.json``.
    device : str

    Raises
    ------
    InputError
        A folder without these, or of another kind of model.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"the aligner's folder {folder} does not exist")
    config = _json(folder, "config.json")
    vocabulary = _json(folder, "vocab.json")
    if not all(isinstance(one, int) for one in vocabulary.values()):
        raise InputError(
            f"{folder}: vocab.json holds vocabularies of several languages; an aligner takes a "
            "model of one"
        )
    kinds = [str(one) for one in config.get("architectures") or []]
    if not any(kind.endswith("ForCTC") for kind in kinds):
        raise InputError(
            f"{folder} holds {', '.join(kinds) or 'a model of unknown kind'}; an aligner takes a "
            "CTC speech model such as Wav2Vec2ForCTC"
        )
    from transformers import AutoModelForCTC

    try:
        model, info = AutoModelForCTC.from_pretrained(
            str(folder),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises errors of many kinds
        why = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise InputError(f"the CTC model in {folder} cannot be loaded: {why[0]}") from None
    missing = sorted(key for key in info["missing_keys"] if "masked_spec_embed" not in key)
    if missing:
        raise InputError(
            f"the CTC model in {folder} lacks {len(missing)} weights, {missing[0]} the first"
        )
    stride = int(np.prod(config.get("conv_stride") or [0]))
    if not stride or config.get("feature_extractor_type"):
        raise InputError(f"{folder} holds a model that does not read sound as wav2vec 2 does")
    blank = model.config.pad_token_id
    if not isinstance(blank, int) or not 0 <= blank < model.config.vocab_size:
        raise InputError(f"{folder}: config.json names no blank symbol (pad_token_id)")
    settings = _json(folder, "preprocessor_config.json", needed=False)
    if int(settings.get("sampling_rate", SAMPLE_RATE)) != SAMPLE_RATE:
        raise InputError(f"{folder} holds a model for another sampling rate than 16 kHz")
    border = _json(folder, "tokenizer_config.json", needed=False).get("word_delimiter_token", "|")
    known = {one: n for one, n in vocabulary.items() if 0 <= n < model.config.vocab_size}
    return CtcAligner(
        model.eval().requires_grad_(False).to(device),
        known,
        blank,
        stride,
        border=border if isinstance(border, str) else "|",
        normalised=bool(settings.get("do_normalize", True)),
    )


def _json(folder: Path, name: str, *, needed: bool = True) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        if needed:
            raise InputError(f"the aligner's folder {folder} holds no {name}")
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not the JSON of a model")
    return content
