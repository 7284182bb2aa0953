"""A voice for a text: a sound file made with espeak-ng or with a VITS model from a folder."""

from __future__ import annotations

import bisect
import ctypes
import ctypes.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.errors import InputError
from tribrain.stimuli.reading import Pace
from tribrain.stimuli.sentences import sentence_spans
from tribrain.stimuli.words import Word, spread_over

VOICES = "espeak-ng, espeak-ng:VOICE (such as espeak-ng:de), or the folder of a VITS model"
# Where espeak-ng calls a language by something else than its two-letter code.
ESPEAK_VOICES = {"en": "en-us", "zh": "cmn", "no": "nb", "iw": "he", "tl": "fil"}
_PAUSE = 0.6  # seconds between sentences of a VITS model: a full stop of spoken_times
_SILENT = 0.02  # of the loudest sample; less is silence
_LONGEST = 1500  # characters spoken in one piece


@dataclass(frozen=True)
class Spoken:
    """A text as sound.

    Attributes
    ----------
    path : Path
        WAV file, one channel.
    words : tuple of Word or None
        Those spoken, in order; None where the voice does not tell their times. `source` is
        "synthesised", or "interpolated" where a word's time is only known together with that of
        its neighbours.
    notes : tuple of str
        What made it and what was left out, in plain words.
    """

    path: Path
    words: tuple[Word, ...] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """Sound of a sentence and, where known, where its words begin and end (sample numbers)."""

    samples: np.ndarray  # int16 (n,)
    words: list[tuple[str, int, int, bool]] | None  # text, first, last, a time of its own


def speak(text: str, voice: str = "espeak-ng", language: str = "en", *, folder: Path) -> Spoken:
    """Say a text aloud into ``speech.wav`` in `folder`.

    The same text, voice and program give the same file. Nothing is fetched, and no code of a
    voice's folder is run.

    Parameters
    ----------
    text : str
        Running text with punctuation.
    voice : str
        ``espeak-ng`` (the voice of `language`), ``espeak-ng:VOICE``, or a folder with a VITS
        model in Hugging Face format (weights as safetensors).
    language : str
        Two-letter code.
    folder : Path
        Where the file goes; made if it is not there.

    Raises
    ------
    InputError
        A voice that is not there or cannot say the text; a text without words.
    """
    text = " ".join(text.replace("\0", " ").split())
    if not Pace().times(text):
        raise InputError("the text to speak holds no words")
    name, _, variant = voice.partition(":")
    if name in ("espeak-ng", "espeak"):
        code = re.split(r"[-_]", language.lower())[0]
        variant = variant or ESPEAK_VOICES.get(code, code)
        if not re.fullmatch(r"[A-Za-z][\w-]*(\+\w+)?", variant):
            raise InputError(f"espeak-ng voice {variant!r} is not a name such as en-us or de+f2")
        rate, pieces, notes = _espeak(text, variant, language)
    elif (Path(voice) / "config.json").is_file():
        rate, pieces, notes = _vits(text, Path(voice), language)
    else:
        raise InputError(f"voice {voice!r} is not known; valid: {VOICES}")
    path = _write(folder, rate, np.concatenate([piece.samples for piece in pieces]))
    return Spoken(path, _joined(pieces, rate), tuple(notes))


def _joined(pieces: Sequence[_Piece], rate: int) -> tuple[Word, ...] | None:
    """Words of all pieces on one clock."""
    words, offset = [], 0
    for piece in pieces:
        if piece.words is None:
            return None
        for text, first, last, own in piece.words:
            source = "synthesised" if own else "interpolated"
            words.append(Word(text, (offset + first) / rate, (last - first) / rate, None, source))
        offset += len(piece.samples)
    return tuple(words)


def _write(folder: Path, rate: int, samples: np.ndarray) -> Path:
    """Write the sound, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".speech.partial-{os.getpid()}.wav"
    try:
        with wave.open(str(partial), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples.astype("<i2").tobytes())
        return partial.replace(folder / "speech.wav")
    finally:
        partial.unlink(missing_ok=True)


def _sentences(text: str, language: str) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """Pieces of a text to speak at once: the piece, and where each word lies in it."""
    words = [word.text for word in Pace().times(text)]
    places, position = [], 0
    for word in words:
        position = text.index(word, position)
        places.append((word, position, position + len(word)))
        position += len(word)
    begins = [begin for _, begin, _ in places]
    for first, last in sentence_spans(text, language):
        while first < last:
            end = last
            if last - first > _LONGEST:  # Thai, or a text without stops: cut between two words
                cut = bisect.bisect_right(begins, first + _LONGEST) - 1
                end = begins[cut] if cut >= 0 and begins[cut] > first else first + _LONGEST
            here = places[bisect.bisect_left(begins, first) : bisect.bisect_left(begins, end)]
            inside = [(word, begin - first, stop - first) for word, begin, stop in here]
            if inside:
                yield text[first:end].rstrip(), inside
            first = end


# espeak-ng


def _espeak(text: str, voice: str, language: str) -> tuple[int, list[_Piece], list[str]]:
    # Brackets would be read as phoneme codes by the program.
    text = re.sub(r"\[(?=\[)", "[ ", text)
    library = _espeak_library()
    if library is not None:
        sentences = list(_sentences(text, language))
        rate, sounds = _in_own_process(library, voice, [piece for piece, _ in sentences])
        pieces = [
            _Piece(samples, _from_events(piece, places, events, samples, rate))
            for (piece, places), (samples, events) in zip(sentences, sounds, strict=True)
        ]
        if not any(len(piece.samples) for piece in pieces):
            raise InputError(f"espeak-ng voice {voice!r} says nothing of the text")
        shared = sum(not own for piece in pieces for *_, own in piece.words or [])
        notes = [f"spoken by espeak-ng, voice {voice}"]
        if shared:
            notes.append(
                f"{shared} of the words are run together by the voice; their times are spread "
                "by syllables"
            )
        return rate, pieces, notes
    program = shutil.which("espeak-ng")
    if program is None:
        raise InputError(
            "espeak-ng is not installed (apt install espeak-ng, brew install espeak-ng); "
            f"valid voices: {VOICES}"
        )
    rate, samples = _by_program(program, text, voice)
    notes = [f"spoken by espeak-ng, voice {voice}; it does not tell the times of the words here"]
    return rate, [_Piece(samples, None)], notes


def _espeak_library() -> str | None:
    for name in (ctypes.util.find_library("espeak-ng"), "libespeak-ng.so.1", "libespeak-ng.dylib"):
        if name:
            try:
                ctypes.CDLL(name)
            except OSError:
                continue
            return name
    return None


def _no_voice(voice: str) -> InputError:
    return InputError(
        f"espeak-ng has no voice {voice!r}; valid: those that 'espeak-ng --voices' lists, "
        "such as espeak-ng:en-us, espeak-ng:de"
    )


def _by_program(program: str, text: str, voice: str) -> tuple[int, np.ndarray]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "speech.wav"
        done = subprocess.run(  # noqa: S603 - no shell, and the voice is a plain name
            [program, "-v", voice, "-b", "1", "--stdin", "-w", str(path)],
            input=text.encode(),
            capture_output=True,
            check=False,
        )
        if b"voice does not exist" in done.stderr:
            raise _no_voice(voice)
        if done.returncode or not path.is_file():
            said = " ".join(done.stderr.decode(errors="replace").split())
            raise InputError(f"espeak-ng could not speak the text: {said or done.returncode}")
        # Its header may state no length when the sound is long.
        content = path.read_bytes()
        rate = int.from_bytes(content[24:28], "little")
        samples = np.frombuffer(content[44 : len(content) - len(content) % 2], "<i2")
    return rate, samples


def _in_own_process(
    library: str, voice: str, pieces: Sequence[str]
) -> tuple[int, list[tuple[np.ndarray, list[tuple[int, int]]]]]:
    """Speak with the library in a process of its own.

    The library keeps a state from one text to the next, so that the same text sounds different
    the second time, and a fault in it would end the program that loaded it.
    """
    code = "from tribrain.stimuli.speaking import _child; _child()"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(  # noqa: S603 - our own code, no shell
        [sys.executable, "-P", "-c", code],
        input=json.dumps([library, voice, list(pieces)]).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode == _NO_VOICE:
        raise _no_voice(voice)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise InputError(f"espeak-ng failed with code {done.returncode}: {' '.join(said)}")
    head, _, sound = done.stdout.partition(b"\n")
    header = json.loads(head)
    samples = np.frombuffer(sound, "<i2")
    result, offset = [], 0
    for size, events in zip(header["sizes"], header["events"], strict=True):
        result.append((samples[offset : offset + size], [tuple(event) for event in events]))
        offset += size
    return header["rate"], result


_NO_VOICE = 3
_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8, _END_PAUSE = 2, 0x8000, 1, 0x1000
_EVENT_WORD, _EVENT_RATE = 1, 8


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms from the start of the text
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("number", ctypes.c_int),  # the first half of a union of 8 bytes
        ("rest", ctypes.c_int),
    )


def _child() -> None:
    """Read [library, voice, pieces] and write rate, word events (place, ms) and samples."""
    name, voice, pieces = json.load(sys.stdin)
    library = ctypes.CDLL(name)
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _DO_NOT_EXIT)
    if rate <= 0:
        sys.exit("its data are not installed")
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(_NO_VOICE)
    sound: list[bytes] = []
    events: list[tuple[int, int]] = []
    rates = [rate]

    def take(samples: Any, count: int, event: Any) -> int:
        if samples and count:
            sound.append(ctypes.string_at(samples, 2 * count))
        number = 0
        while event[number].type:
            one = event[number]
            if one.type == _EVENT_WORD:
                events.append((one.text_position, one.audio_position))
            elif one.type == _EVENT_RATE and one.number > 0:
                rates.append(one.number)
            number += 1
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
    callback = kind(take)
    library.espeak_SetSynthCallback(callback)
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    header: dict[str, Any] = {"sizes": [], "events": []}
    every = []
    for piece in pieces:
        content = piece.encode()
        flags = _UTF8 | _END_PAUSE
        library.espeak_Synth(content, len(content) + 1, 0, 1, 0, flags, None, None)
        spoken = b"".join(sound)
        every.append(spoken)
        header["sizes"].append(len(spoken) // 2)
        header["events"].append(list(events))
        sound.clear()
        events.clear()
    header["rate"] = rates[-1]
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + b"".join(every))
    sys.stdout.buffer.flush()


def _from_events(
    piece: str,
    places: Sequence[tuple[str, int, int]],
    events: Sequence[tuple[int, int]],
    samples: np.ndarray,
    rate: int,
) -> list[tuple[str, int, int, bool]]:
    """Words from word events; those without one of their own share the time of the one before.

    A word lasts to the next one, or to the last sound before it.
    """
    begins = [begin for _, begin, _ in places]
    own: dict[int, int] = {}  # word: first sample
    latest = 0
    for position, ms in events:
        place = max(position - 1, 0)
        place += len(piece[place:]) - len(piece[place:].lstrip())  # some point at the space before
        word = max(0, bisect.bisect_right(begins, place) - 1)
        at = min(round(ms * rate / 1000), len(samples))
        if word not in own and (not own or (word > max(own) and at >= latest)):
            own[word] = latest = at
    if not own:
        own = {0: 0}
    first_known = min(own)
    if first_known:  # words before the first event begin with the sound
        own = {0: 0, **own}
    keys = sorted(own)
    words: list[tuple[str, int, int, bool]] = []
    for key, following in zip(keys, [*keys[1:], len(places)], strict=True):
        first = own[key]
        last = own[following] if following < len(places) else len(samples)
        first, last = _voiced(samples, first, last)
        run = [text for text, _, _ in places[key:following]]
        alone = len(run) == 1
        words += [
            (word.text, round(word.start), round(word.end), alone)
            for word in spread_over(run, first, last - first)
        ]
    return words


def _voiced(samples: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """The part of a span from its first to its last sound; the whole of a silent span."""
    part = np.abs(samples[first:last].astype(np.int32))
    if not len(part):
        return first, last
    heard = np.flatnonzero(part > _SILENT * np.abs(samples.astype(np.int32)).max())
    return (first + int(heard[0]), first + int(heard[-1]) + 1) if len(heard) else (first, last)


# VITS


def _vits(text: str, folder: Path, language: str) -> tuple[int, list[_Piece], list[str]]:
    import torch

    with torch.random.fork_rng(devices=[]):  # making the model draws numbers as well
        model, tokenizer = _load_vits(folder)
    durations: list[Any] = []
    model.duration_predictor.register_forward_hook(lambda *args: durations.append(args[-1]))
    rate = int(model.config.sampling_rate)
    pause = np.zeros(round(_PAUSE * rate), np.int16)
    pieces: list[_Piece] = []
    unsaid = 0
    for sentence, places in _sentences(text, language):
        try:
            tokens = tokenizer(sentence, return_tensors="pt")
        except ImportError:
            raise InputError(
                f"voice {folder} reads phonemes, for which it needs the package phonemizer: "
                "pip install phonemizer"
            ) from None
        ids = tokens["input_ids"]
        signs = int((ids != 0).sum())
        if not signs:
            unsaid += 1
            continue
        # The model draws from torch's own generator; the caller's is left as it was.
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(0)
            sound = model(**tokens).waveform[0].float().numpy()
            lengths = torch.ceil(torch.exp(durations.pop()) / model.speaking_rate)[0, 0].long()
        samples = (np.clip(np.nan_to_num(sound), -1, 1) * 32767).round().astype(np.int16)
        edges = np.r_[0, np.cumsum(lengths.numpy())] * math.prod(model.config.upsample_rates)
        texts = [word for word, _, _ in places]
        words = _from_lengths(texts, edges, sentence, tokenizer, len(samples))
        if words is None:
            first, last = _voiced(samples, 0, len(samples))
            words = [
                (word.text, round(word.start), round(word.end), False)
                for word in spread_over(texts, first, last - first)
            ]
        pieces.append(_Piece(np.concatenate([samples, pause]), words))
    if not pieces:
        raise InputError(f"voice {folder} knows no character of the text")
    notes = [f"spoken by the VITS model {folder.name}"]
    spread = sum(not own for piece in pieces for *_, own in piece.words or [])
    if spread:
        notes.append(
            f"{spread} of the words have no time of their own and are spread over their "
            "sentences by syllables"
        )
    if unsaid:
        said = "1 sentence holds" if unsaid == 1 else f"{unsaid} sentences hold"
        notes.append(f"{said} no character that the voice knows and were left out")
    missing = _unknown(text, tokenizer)
    if missing:
        notes.append(f"the voice has no sound for: {' '.join(missing)}")
    return rate, pieces, notes


def _from_lengths(
    texts: Sequence[str], edges: np.ndarray, sentence: str, tokenizer: Any, size: int
) -> list[tuple[str, int, int, bool]] | None:
    """Words from the lengths that the model gave its signs; None where signs and words differ.

    `edges` (signs + 1,) are samples. The signs are those of the sentence as the voice reads it,
    or these with a blank before, between and after them.
    """
    signs, _ = tokenizer.prepare_for_tokenization(sentence)
    groups = [
        (found.start(), found.end())
        for found in re.finditer(r"\S+", signs)
        if any(c.isalnum() for c in found.group())
    ]
    step = 2 if tokenizer.add_blank else 1
    n_signs = 2 * len(signs) + 1 if tokenizer.add_blank else len(signs)
    if len(groups) != len(texts) or len(edges) != n_signs + 1 or edges[-1] != size:
        return None
    return [
        (text, int(edges[step * first + step - 1]), int(edges[step * last]), True)
        for text, (first, last) in zip(texts, groups, strict=True)
    ]


def _load_vits(folder: Path) -> tuple[Any, Any]:
    from transformers import VitsModel, VitsTokenizer

    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = config.get("model_type") if isinstance(config, dict) else None
    except ValueError:
        kind = None
    if kind != "vits":
        raise InputError(f"voice {folder} is of type {kind!r}; valid: 'vits'")
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"voice {folder} has no weights as safetensors (model.safetensors)")
    try:
        loaded: Any = VitsModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        model, info = loaded
        tokenizer = VitsTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the loaders raise errors of several libraries
        said = " ".join(str(error).split())[:200]
        raise InputError(f"voice {folder} cannot be loaded: {said}") from None
    # The posterior encoder only serves training.
    missing = [key for key in info["missing_keys"] if not key.startswith("posterior_encoder")]
    if missing:
        raise InputError(
            f"voice {folder}: {len(missing)} weights are missing, {sorted(missing)[0]} the first"
        )
    if getattr(tokenizer, "is_uroman", False):
        from importlib.util import find_spec

        if find_spec("uroman") is None:
            raise InputError(f"voice {folder} needs uroman: pip install uroman")
    return model.eval(), tokenizer


def _unknown(text: str, tokenizer: Any) -> list[str]:
    """Letters and figures that the voice passes over, the first ten."""
    if tokenizer.phonemize or getattr(tokenizer, "is_uroman", False):
        return []
    known = {key.casefold() for key in tokenizer.get_vocab()}
    return sorted({c for c in text.casefold() if c.isalnum() and c not in known})[:10]
