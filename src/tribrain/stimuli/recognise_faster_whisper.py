"""Recognition with faster-whisper: Whisper in CTranslate2 format, int8 on the CPU."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.errors import InputError
from tribrain.stimuli.recognition import Recognised
from tribrain.stimuli.words import Word, spread_over

# Models that are looked for in the local cache: those of many languages first, the better first.
_CACHED = (
    *("large-v3-turbo", "large-v3", "large-v2", "large-v1", "medium", "small", "base", "tiny"),
    *("distil-large-v3.5", "distil-large-v3", "distil-large-v2", "distil-medium.en"),
    *("medium.en", "distil-small.en", "small.en", "base.en", "tiny.en"),
)
_ENGLISH = ("distil-", ".en")
_FILES = ("config.json", "model.bin", "tokenizer.json")
_MISSING = "faster-whisper is not installed; pip install 'tribrain[asr]'"


class FasterWhisper:
    """A Whisper model in CTranslate2 format; half precision on a CUDA GPU, else int8 on the CPU.

    Parameters
    ----------
    where : str
        A folder with ``model.bin``, ``config.json`` and ``tokenizer.json``, or the name of a model
        on the hub (``small``, ``OWNER/REPOSITORY``), which is fetched unless it is in the cache.
    device : str
        Apple's GPU is not supported by CTranslate2; the CPU is then used.

    Raises
    ------
    InputError
        If the package is not installed, or the model cannot be found, fetched or loaded.
    """

    def __init__(self, where: str, device: str) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError:
            raise InputError(_MISSING) from None
        folder = _folder(where)
        self.name = f"faster-whisper:{where if folder != Path(where) else folder.name}"
        on_gpu = device.startswith("cuda")
        try:
            self._model = WhisperModel(
                str(folder),
                device="cuda" if on_gpu else "cpu",
                compute_type="float16" if on_gpu else "int8",
                local_files_only=True,
            )
        except Exception as error:  # CTranslate2 raises errors of its own and of CUDA
            raise InputError(
                f"recogniser model {folder} cannot be loaded: {_first_line(error)}"
            ) from error

    def recognise(self, sound: np.ndarray, language: str | None) -> Recognised:
        """Hear the words of a sound; see `tribrain.stimuli.recognition.Recogniser`.

        A word's confidence is the mean probability of its tokens. Where the model gives a line
        without word times, the line is spread over its span by syllables.
        """
        # Where a first attempt looks wrong, Whisper draws at random: the same draws each time.
        with contextlib.suppress(ImportError):
            import ctranslate2

            ctranslate2.set_random_seed(0)
        try:
            segments, info = self._model.transcribe(
                sound,
                language=language,
                task="transcribe",
                word_timestamps=True,
                condition_on_previous_text=False,  # a loop in one window would go on in the next
                vad_filter=False,
            )
            heard = list(segments)
        except ValueError as error:
            if language is None:
                raise
            raise InputError(f"language {language!r}: {_first_line(error)}") from None
        words: list[Word] = []
        notes = []
        for segment in heard:
            if segment.words is None:
                words += _spread(segment)
                notes = ["lines without word times were spread over their spans by syllables"]
                continue
            for word in segment.words:
                text = word.word.strip()
                if text:
                    confidence = min(max(float(word.probability), 0.0), 1.0)
                    start, length = float(word.start), max(0.0, float(word.end - word.start))
                    words.append(Word(text, start, length, confidence, "recognised"))
        if language is not None and info.language != language:
            notes.append(f"{self.name} knows {info.language} alone, not {language!r}")
        return Recognised(tuple(words), info.language, tuple(notes))


def cached_model(language: str | None = None) -> Path | None:
    """The best model in the local cache, without a look at the network.

    Parameters
    ----------
    language : str or None
        Models that know English alone count only for English, or where no language is given.
    """
    from faster_whisper import available_models, download_model

    known = available_models()
    for name in _CACHED:
        english_only = any(part in name for part in _ENGLISH)
        if name not in known or (english_only and language not in (None, "en")):
            continue
        with contextlib.suppress(Exception):  # not in the cache: the hub's client has many errors
            folder = Path(download_model(name, local_files_only=True))
            if not _missing(folder):
                return folder
    return None


def _folder(where: str) -> Path:
    folder = Path(where).expanduser()
    if folder.is_dir():
        missing = _missing(folder)
        if missing:  # without its tokenizer, faster-whisper would go and fetch another one
            raise InputError(
                f"folder {folder} holds no model in CTranslate2 format: {', '.join(missing)} "
                "not there (ct2-transformers-converter makes one, with --copy_files tokenizer.json "
                "preprocessor_config.json)"
            )
        return folder
    from faster_whisper import available_models, download_model

    known = available_models()
    if where not in known and (where.count("/") != 1 or where.startswith((".", "/", "~"))):
        raise InputError(
            f"recogniser model {where!r} is neither a folder nor a model of the hub "
            f"(OWNER/REPOSITORY, {', '.join(known)})"
        )
    with contextlib.suppress(Exception):  # not in the cache, or not whole
        folder = Path(download_model(where, local_files_only=True))
        if not _missing(folder):
            return folder
    try:
        folder = Path(download_model(where))
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        raise InputError(
            f"recogniser model {where!r} is not on this machine and cannot be fetched "
            f"({type(error).__name__})"
        ) from None
    missing = _missing(folder)
    if missing:
        raise InputError(
            f"recogniser model {where!r} is not in CTranslate2 format: no {', '.join(missing)}"
        )
    return folder


def _missing(folder: Path) -> list[str]:
    return [name for name in _FILES if not (folder / name).is_file()]


def _spread(segment: Any) -> list[Word]:
    start, length = float(segment.start), max(0.0, float(segment.end - segment.start))
    confidence = min(1.0, math.exp(segment.avg_logprob))
    return [
        replace(word, confidence=confidence, source="interpolated")
        for word in spread_over(segment.text.split() or [], start, length)
    ]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
