"""Recognition with a speech model of `transformers` from a folder on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.errors import InputError
from tribrain.stimuli.recognise_sound import RATE
from tribrain.stimuli.recognition import Recognised, Recogniser
from tribrain.stimuli.words import UNSPACED, Word, spread_over

_TRANSCRIBERS = ("whisper", "moonshine")  # models that write text, as `transformers` calls them
_PARTS_NOT_NEEDED = ("masked_spec_embed",)  # made for training
_SHORTEST = 1600  # samples; some models' convolutions take no less than 25 ms


def load_transformers(folder: Path, device: str) -> Recogniser:
    """Load a speech model from a folder in Hugging Face format; nothing in it is executed.

    Parameters
    ----------
    folder : Path
        A model with a CTC head (wav2vec 2, HuBERT, WavLM, ...), Whisper or Moonshine, with
        safetensors weights, its feature extractor and its tokenizer.
    device : {"cpu", "cuda", "mps"}

    Raises
    ------
    InputError
        If the folder is not there, or holds no such model, or not all of its weights.
    """
    folder = folder.expanduser()
    if not (folder / "config.json").is_file():
        raise InputError(
            f"recogniser folder {folder} holds no config.json; a folder in Hugging Face format "
            "is expected (nothing is fetched)"
        )
    import torch
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoModelForCTC,
        AutoModelForSpeechSeq2Seq,
        AutoTokenizer,
    )
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING_NAMES
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    local: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        spells = config.model_type in MODEL_FOR_CTC_MAPPING_NAMES
        if not spells and config.model_type not in _TRANSCRIBERS:
            known = ", ".join((*MODEL_FOR_CTC_MAPPING_NAMES, *_TRANSCRIBERS))
            raise InputError(f"a model of type {config.model_type!r} is not known; known: {known}")
        model, info = (AutoModelForCTC if spells else AutoModelForSpeechSeq2Seq).from_pretrained(
            folder,
            dtype=torch.float16 if device == "cuda" and not spells else torch.float32,
            # Word times of Whisper are read from its attention, which faster kernels do not give.
            attn_implementation=None if spells else "eager",
            use_safetensors=True,
            output_loading_info=True,
            **local,
        )
        missing = sorted(k for k in info["missing_keys"] if not k.endswith(_PARTS_NOT_NEEDED))
        if missing:
            raise InputError(
                f"{len(missing)} weights are missing, {missing[0]} the first; "
                "was the model trained to recognise speech?"
            )
        extractor = AutoFeatureExtractor.from_pretrained(folder, **local)
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        if extractor.sampling_rate != RATE:
            raise InputError(f"it hears sound at {extractor.sampling_rate} Hz, not at {RATE}")
    except Exception as error:  # whatever a broken folder makes `transformers` raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"recogniser folder {folder}: {first}") from error
    model.eval().requires_grad_(False).to(device)
    name = f"transformers:{folder.absolute().name}"
    if spells:
        return Speller(name, model, extractor, tokenizer)
    return Transcriber(name, model, extractor, tokenizer)


@dataclass(eq=False)
class Speller:
    """A model with a CTC head, which gives letters frame by frame."""

    name: str
    model: Any
    extractor: Any
    tokenizer: Any

    def recognise(self, sound: np.ndarray, language: str | None) -> Recognised:
        """Hear the words of a sound; see `tribrain.stimuli.recognition.Recogniser`.

        The most probable letter of each frame is taken. A word lasts from the first frame of its
        first letter to the last frame of its last one; CTC models give letters as spikes, so that
        words come out somewhat short. Its confidence is the mean probability of its letters. The
        language is that of the model, whatever is given.
        """
        import torch

        padded = np.pad(sound, (0, max(0, _SHORTEST - len(sound))))
        inputs = self.extractor(padded, sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(**inputs.to(self.model.device)).logits[0]
            probabilities = logits.float().softmax(-1).cpu().numpy()
        config, tokenizer = self.model.config, self.tokenizer
        blank = tokenizer.pad_token_id if config.pad_token_id is None else config.pad_token_id
        tokens = tokenizer.convert_ids_to_tokens(list(range(probabilities.shape[1])))
        space = getattr(tokenizer, "word_delimiter_token", None)
        special = set(tokenizer.all_special_tokens) - {space}
        step = _seconds_per_frame(config, len(padded), len(probabilities))
        words = list(ctc_words(probabilities, tokens, blank, space, special, step))
        notes = []
        letters = [token for token in tokens if token and token not in special]
        if not any(token != token.upper() for token in letters):  # it knows capitals alone
            words = [replace(word, text=word.text.lower()) for word in words]
            notes = [f"{self.name} knows capital letters alone; words are in small letters"]
        return Recognised(tuple(words), language, tuple(notes))


def ctc_words(
    probabilities: np.ndarray,
    tokens: Sequence[str | None],
    blank: int,
    space: str | None,
    special: set[str],
    step: float,
) -> Iterator[Word]:
    """Words from the most probable token of each frame.

    Parameters
    ----------
    probabilities : ndarray (frames, tokens)
    tokens : sequence of str
        Text of each token. A word begins after `space`, and at a token that begins with "▁".
    blank : int
        The token of no letter; tokens that repeat without it between them are one.
    space : str or None
    special : set of str
        Tokens that are no text, such as ``<unk>``.
    step : float
        Seconds from frame to frame.

    Yields
    ------
    Word
    """
    best = probabilities.argmax(axis=1)
    edges = np.flatnonzero(np.diff(best)) + 1
    letters: list[tuple[str, int, int, float]] = []  # text, first frame, last, probability
    for first, last in zip([0, *edges], [*edges, len(best)], strict=True):
        number = int(best[first]) if last > first else blank
        token = tokens[number]
        if number == blank or not token or token in special:
            continue
        begins = token == space or token[0] in "▁ " or _is_unspaced(token)
        if begins and letters:
            yield _word(letters, step)
            letters = []
        text = "" if token == space else token.lstrip("▁ ")
        if text:
            sure = float(probabilities[first:last, number].max())
            letters.append((text, int(first), int(last), sure))
            if _is_unspaced(text):
                yield _word(letters, step)
                letters = []
    if letters:
        yield _word(letters, step)


def _word(letters: Sequence[tuple[str, int, int, float]], step: float) -> Word:
    start, end = letters[0][1] * step, letters[-1][2] * step
    confidence = sum(letter[3] for letter in letters) / len(letters)
    text = "".join(letter[0] for letter in letters)
    return Word(text, start, end - start, min(1.0, confidence), "recognised")


def _is_unspaced(text: str) -> bool:
    """Whether a token is a sign of a script without spaces, and so a word of its own."""
    return re.fullmatch(f"[{UNSPACED}]", text) is not None


def _seconds_per_frame(config: Any, n_samples: int, n_frames: int) -> float:
    """The model's own step where it states one in samples; else the sound shared by the frames."""
    step = getattr(config, "inputs_to_logits_ratio", 0)
    if step and abs(step * n_frames - n_samples) <= 2 * step:
        return float(step) / RATE
    return n_samples / max(1, n_frames) / RATE


class Transcriber:
    """A model that writes the text of what it hears: Whisper, Moonshine.

    Word times are Whisper's own, by dynamic time warping of its attention. Where a model does not
    state which attention heads to use for that, its lines are spread over their spans by
    syllables; where it gives no times at all, its text is spread over the sound.
    """

    def __init__(self, name: str, model: Any, extractor: Any, tokenizer: Any) -> None:
        from transformers import AutomaticSpeechRecognitionPipeline

        self.name = name
        self._pipeline: Any = AutomaticSpeechRecognitionPipeline(
            model, tokenizer=tokenizer, feature_extractor=extractor, device=model.device
        )
        config = model.generation_config
        self._languages = dict(getattr(config, "lang_to_id", None) or {})
        self._whisper = model.config.model_type == "whisper"
        self._times: bool | str | None = None
        if self._whisper:
            stamps = getattr(config, "no_timestamps_token_id", None) is not None
            heads = getattr(config, "alignment_heads", None)
            self._times = ("word" if heads else True) if stamps else None

    def recognise(self, sound: np.ndarray, language: str | None) -> Recognised:
        """Hear the words of a sound; see `tribrain.stimuli.recognition.Recogniser`.

        There is no confidence.
        """
        options: dict[str, Any] = {}
        if self._languages:
            options["generate_kwargs"] = {"task": "transcribe"}
            if language is not None:
                if f"<|{language}|>" not in self._languages:
                    known = ", ".join(sorted(key.strip("<|>") for key in self._languages))
                    raise InputError(f"{self.name} does not know language {language!r}; {known}")
                options["generate_kwargs"]["language"] = language
            options["return_language"] = True
        if self._times is not None:
            options["return_timestamps"] = self._times
        padded = np.pad(sound, (0, max(0, _SHORTEST - len(sound))))
        result = self._pipeline(padded, **options)
        seconds = len(sound) / RATE
        chunks = result.get("chunks") or []
        heard = language or _code(chunks)
        if self._times == "word":
            return Recognised(tuple(_timed(chunks, seconds)), heard)
        if self._times is None:
            chunks = [{"text": result["text"], "timestamp": (0.0, seconds)}]
        words = [
            replace(word, source="interpolated")
            for chunk in chunks
            for word in _spread(chunk, seconds)
        ]
        what = "lines" if self._times else "pieces of sound"
        note = f"{self.name} gives no word times: words are spread over {what} by syllables"
        return Recognised(tuple(words), heard, (note,))


def _timed(chunks: Sequence[dict[str, Any]], seconds: float) -> Iterator[Word]:
    for chunk in chunks:
        text = chunk["text"].strip()
        if text:
            start, end = _span(chunk, seconds)
            yield Word(text, start, end - start, None, "recognised")


def _spread(chunk: dict[str, Any], seconds: float) -> list[Word]:
    parts = chunk["text"].split()
    start, end = _span(chunk, seconds)
    return spread_over(parts, start, end - start) if parts else []


def _span(chunk: dict[str, Any], seconds: float) -> tuple[float, float]:
    """Start and end of a chunk; one that Whisper leaves open ends with the sound."""
    start, end = chunk["timestamp"]
    start = min(max(float(start or 0.0), 0.0), seconds)
    end = seconds if end is None else min(float(end), seconds)
    return start, max(start, end)


def _code(chunks: Sequence[dict[str, Any]]) -> str | None:
    """Two-letter code of the language that Whisper names in full."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    names = [chunk["language"] for chunk in chunks if chunk.get("language")]
    return TO_LANGUAGE_CODE.get(names[0], names[0]) if names else None
