"""Where speech is in a sound, how long speech is cut into pieces, how their words are joined."""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tribrain.errors import InputError
from tribrain.stimuli.recognise_sound import RATE
from tribrain.stimuli.words import Word

if TYPE_CHECKING:
    import torch

WINDOW = 512  # samples, 32 ms: what is judged as speech or not
LONGEST_PIECE = 30.0  # seconds; all that Whisper hears at once

# Probability of speech that begins a stretch of speech, and below which one may end. The shortest
# speech and pause are those of silero-vad, but for words as short as "no".
_BEGINS, _ENDS = 0.5, 0.35
_SHORTEST_SPEECH = 6  # windows, 0.19 s
_SHORTEST_PAUSE = 3  # windows, 0.1 s
# A pause of 2 s parts speech wherever it is; one of 0.16 s is long enough to cut in.
_PARTING_PAUSE = round(2.0 * RATE / WINDOW)
_CUTTING_PAUSE = 5  # windows
_CONTEXT = round(0.5 * RATE)  # samples heard beyond speech at a pause
_OVERLAP = round(1.0 * RATE)  # samples heard beyond a cut in unbroken speech
_STEP = 320  # samples, 20 ms: pieces begin on it, so that a model's frames lie as in the whole
_SLACK = 0.2  # seconds that a recogniser's times may be off

_SILERO_WEIGHTS = (
    "stft.forward_basis_buffer",
    *(f"encoder.{n}.reparam_conv.{part}" for n in range(4) for part in ("weight", "bias")),
    *(f"decoder.rnn.{part}_{side}" for part in ("weight", "bias") for side in ("ih", "hh")),
    "decoder.decoder.2.weight",
    "decoder.decoder.2.bias",
)


class Gate(Protocol):
    """Tells speech from other sound, window by window."""

    name: str

    def __call__(self, sound: np.ndarray) -> np.ndarray:
        """Probability of speech in each window of the next block of a sound.

        Parameters
        ----------
        sound : ndarray (n * WINDOW,), float32
            Mono, 16 kHz; what follows the block of the call before.

        Returns
        -------
        ndarray (n,), float32
        """


class SileroGate:
    """silero-vad, a small network that hears speech of any language.

    The probabilities are those of the package's own model, which goes window by window; with its
    weights, the windows of a block go through the convolutions together here, which is many times
    faster. A later model of another build is run as it comes. The package itself is not imported,
    only its model is read: importing it sets the number of threads of the whole program to one.

    Raises
    ------
    InputError
        If the package is not installed.
    """

    name = "silero-vad"

    def __init__(self) -> None:
        import torch

        path = _silero_model()
        if path is None:
            raise InputError("silero-vad is not installed; pip install 'tribrain[offline]'")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is being retired
            self._model = torch.jit.load(path, map_location="cpu").eval()
        weights = {
            key.removeprefix("_model."): value
            for key, value in self._model.state_dict().items()
            if key.startswith("_model.")  # the model for 16 kHz; another is for 8 kHz
        }
        self._weights = weights if weights.keys() >= set(_SILERO_WEIGHTS) else None
        self._lstm = torch.nn.LSTM(128, 128)
        if self._weights:
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            self._lstm.load_state_dict({f"{n}_l0": weights[f"decoder.rnn.{n}"] for n in names})
        self._before = torch.zeros(64)  # the end of the window before
        self._state: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, sound: np.ndarray) -> np.ndarray:
        import torch

        if not len(sound):
            return np.zeros(0, np.float32)
        with torch.inference_mode():
            samples = torch.from_numpy(np.ascontiguousarray(sound))
            if self._weights:
                return self._block(samples, self._weights).numpy()
            windows = samples.split(WINDOW)
            return np.array([self._model(w, RATE).item() for w in windows], np.float32)

    def _block(self, sound: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn import functional

        samples = torch.cat([self._before, sound])
        self._before = samples[-64:].clone()
        windows = samples.unfold(0, WINDOW + 64, WINDOW)[:, None]
        padded = functional.pad(windows, (0, 64), mode="reflect")
        spectrum = functional.conv1d(padded, weights["stft.forward_basis_buffer"], stride=128)
        x = torch.hypot(spectrum[:, :129], spectrum[:, 129:])
        for number, stride in enumerate((1, 2, 2, 1)):
            conv = f"encoder.{number}.reparam_conv"
            x = functional.conv1d(
                x, weights[f"{conv}.weight"], weights[f"{conv}.bias"], stride=stride, padding=1
            ).relu()
        x, self._state = self._lstm(x.squeeze(-1), self._state)
        last = weights["decoder.decoder.2.weight"][0, :, 0]
        return (x.relu() @ last + weights["decoder.decoder.2.bias"]).sigmoid()


class LoudnessGate:
    """Speech is what is louder than the quietest tenth of a block; music passes as speech.

    A window counts from 10 dB above that tenth on, but from -40 dB of full scale at the latest
    and -55 dB at the earliest.
    """

    name = "loudness"

    def __call__(self, sound: np.ndarray) -> np.ndarray:
        if not len(sound):
            return np.zeros(0, np.float32)
        power = np.square(sound.reshape(-1, WINDOW), dtype=np.float32).mean(axis=1)
        level = 10 * np.log10(power + 1e-12)
        threshold = np.clip(np.percentile(level, 10) + 10, -55, -40)
        return (1 / (1 + np.exp((threshold - level) / 3))).astype(np.float32)


def best_gate() -> tuple[Gate, list[str]]:
    """silero-vad where it is installed; else a gate by loudness, with a note."""
    if _silero_model() is not None:
        return SileroGate(), []
    return LoudnessGate(), [
        "speech was told from silence by loudness alone, so music was heard as speech too; "
        "pip install 'tribrain[offline]' brings silero-vad, which tells them apart"
    ]


def _silero_model() -> Path | None:
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "data" / "silero_vad.jit"
    return path if path.is_file() else None


def speech_spans(probabilities: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of speech.

    Speech begins where its probability reaches 0.5 and ends where it stays below 0.35 for 0.1 s;
    what lasts under 0.19 s is no speech.

    Parameters
    ----------
    probabilities : ndarray (n,)
        Of speech in each window.

    Returns
    -------
    list of (first, last)
        Windows, `last` excluded.
    """
    spans: list[tuple[int, int]] = []
    first, quiet = -1, 0  # first window of the speech going on; quiet ones since it was heard
    for number, value in enumerate([*probabilities.tolist(), *[0.0] * _SHORTEST_PAUSE]):
        if first < 0:
            if value >= _BEGINS:
                first, quiet = number, 0
        elif value >= _ENDS:
            quiet = 0
        else:
            quiet += 1
            if quiet == _SHORTEST_PAUSE:
                last = number + 1 - quiet
                if last - first >= _SHORTEST_SPEECH:
                    spans.append((first, last))
                first = -1
    return spans


@dataclass(frozen=True)
class Piece:
    """Sound that is recognised in one go, samples `first` to `last` (excluded) at 16 kHz.

    `cut` is where unbroken speech was cut between the piece before and this one; both hear 1 s
    beyond it. At a pause it is None: nothing is heard twice. `speech` is the length of what is
    spoken, in samples.
    """

    first: int
    last: int
    cut: int | None
    speech: int


def plan_pieces(
    spans: Sequence[tuple[int, int]],
    probabilities: np.ndarray,
    n_samples: int,
    longest: float = LONGEST_PIECE,
) -> list[Piece]:
    """Cut speech into pieces at its longest pauses.

    Speech is parted wherever it pauses for 2 s. What then is still too long is cut at the longest
    pause in the last two thirds of what a piece may hold, else at the longest in the first third,
    else, in unbroken speech, where speech is least probable in the last third. Half a second of
    silence, or half of the pause, is left at each end.

    Parameters
    ----------
    spans : sequence of (first, last)
        Speech, in windows.
    probabilities : ndarray (n,)
        Of speech in each window.
    n_samples : int
        Length of the sound.
    longest : float
        Seconds that a piece may last; infinity parts speech at long pauses alone.

    Returns
    -------
    list of Piece
        In order.

    Raises
    ------
    InputError
        If `longest` is under 6 s.
    """
    if not longest >= 6:
        raise InputError(f"pieces of speech last 6 s or more; {longest:g} s is less")
    pieces: list[Piece] = []
    for run in _runs(spans):
        limit = int(min(longest * RATE - 2 * _OVERLAP, n_samples + WINDOW) // WINDOW)
        begin, end = run[0][0], run[-1][1]
        first, cut = begin * WINDOW - _CONTEXT, None
        while end - begin > limit:
            pause = _pause_to_cut_in(run, begin, limit)
            if pause is not None:
                left, right = pause[0] * WINDOW, pause[1] * WINDOW
                context = min(_CONTEXT, (right - left) // 2)
                last, next_first, next_cut = left + context, right - context, None
                next_begin = pause[1]
            else:
                next_begin = _weakest(probabilities, begin + 2 * limit // 3, begin + limit)
                next_cut = next_begin * WINDOW
                last, next_first = next_cut + _OVERLAP, next_cut - _OVERLAP
            pieces.append(_piece(first, last, cut, run, begin, next_begin, n_samples))
            begin, first, cut = next_begin, next_first, next_cut
        pieces.append(_piece(first, end * WINDOW + _CONTEXT, cut, run, begin, end, n_samples))
    # What lies beyond the next piece is heard by the one after it: here it would come twice.
    for number, after in enumerate(pieces[1:]):
        if after.cut is not None:
            pieces[number] = replace(pieces[number], last=min(pieces[number].last, after.last))
    return pieces


def _runs(spans: Iterable[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    runs: list[list[tuple[int, int]]] = []
    for span in spans:
        if runs and span[0] - runs[-1][-1][1] < _PARTING_PAUSE:
            runs[-1].append(span)
        else:
            runs.append([span])
    return runs


def _pause_to_cut_in(
    run: Sequence[tuple[int, int]], begin: int, limit: int
) -> tuple[int, int] | None:
    pauses = [
        (before[1], after[0])
        for before, after in itertools.pairwise(run)
        if begin < before[1] <= begin + limit and after[0] - before[1] >= _CUTTING_PAUSE
    ]
    late = [pause for pause in pauses if pause[0] >= begin + limit // 3]
    return max(late or pauses, key=lambda pause: (pause[1] - pause[0], pause[0]), default=None)


def _weakest(probabilities: np.ndarray, first: int, last: int) -> int:
    """The window in whose middle speech is least probable (mean over three windows)."""
    smooth = np.convolve(probabilities[first - 1 : last + 1], np.ones(3), mode="valid")
    return first + int(smooth.argmin())


def _piece(
    first: int,
    last: int,
    cut: int | None,
    run: Sequence[tuple[int, int]],
    begin: int,
    end: int,
    n_samples: int,
) -> Piece:
    spoken = sum(max(0, min(b, end) - max(a, begin)) for a, b in run)
    on_step = -(-max(0, first) // _STEP) * _STEP
    return Piece(on_step, min(last, n_samples), cut, spoken * WINDOW)


def join_words(left: Sequence[Word], right: Sequence[Word], cut: float) -> list[Word]:
    """Join the words of two pieces that both heard the speech around a cut.

    The pieces are joined at the word nearest to the cut that both heard at the same time. Where
    there is none, each gives the words whose middle lies on its side, and words that neither
    would give, as their times differ, are put in if nothing else is heard at their time.

    Parameters
    ----------
    left, right : sequence of Word
        In order, on one clock.
    cut : float
        Seconds.

    Returns
    -------
    list of Word
        In order.
    """
    begin = min((word.start for word in right), default=cut) - 1
    near = len(left)
    while near and left[near - 1].end > begin:
        near -= 1
    pairs = [
        (i, j)
        for i in range(near, len(left))
        for j, other in enumerate(right)
        if other.start < left[-1].end + 1 and _same(left[i], other)
    ]
    if pairs:
        i, j = min(pairs, key=lambda pair: _distance(left[pair[0]], right[pair[1]], cut))
        both = left[i] if _middle(left[i]) < cut else right[j]
        return [*left[:i], both, *right[j + 1 :]]
    kept = [word for word in left if _middle(word) < cut]
    kept += [word for word in right if _middle(word) >= cut]
    spare = [word for word in left if _middle(word) >= cut]
    spare += [word for word in right if _middle(word) < cut]
    for word in sorted(spare, key=lambda word: abs(_middle(word) - cut)):
        if not any(word.start < other.end and other.start < word.end for other in kept):
            kept.append(word)
    return sorted(kept, key=lambda word: word.start)


def _middle(word: Word) -> float:
    return word.start + word.duration / 2


def _distance(left: Word, right: Word, cut: float) -> tuple[float, float]:
    """How far a pair lies from the cut, then how far apart its times are."""
    apart = abs(_middle(left) - _middle(right))
    return round(abs((_middle(left) + _middle(right)) / 2 - cut) + apart, 3), apart


def _same(left: Word, right: Word) -> bool:
    """Whether two pieces heard one word: the same letters at the same time."""
    text = _letters(left)
    if not text or text != _letters(right):
        return False
    shared = min(left.end, right.end) - max(left.start, right.start)
    if shared >= 0.5 * min(left.duration, right.duration) > 0:
        return True
    return abs(_middle(left) - _middle(right)) <= _SLACK / 2


def _letters(word: Word) -> str:
    return "".join(c for c in word.text.casefold() if c.isalnum())


def spoken_words(
    words: Sequence[Word], speech: Sequence[tuple[float, float]]
) -> tuple[list[Word], int]:
    """Words heard where there is speech, and the number of those heard where there is none.

    Parameters
    ----------
    words : sequence of Word
    speech : sequence of (start, end)
        Stretches of speech in seconds, in order, on the words' clock.

    Returns
    -------
    kept : list of Word
        Those that reach into speech, give or take 0.2 s.
    dropped : int
    """
    starts = np.array([start for start, _ in speech]) - _SLACK
    ends = np.array([end for _, end in speech]) + _SLACK
    kept = []
    for word in words:
        number = int(np.searchsorted(ends, word.start, side="right"))
        if number < len(starts) and word.end >= starts[number]:
            kept.append(word)
    return kept, len(words) - len(kept)
