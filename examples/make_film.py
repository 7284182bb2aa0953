"""Make the demo film: 40 s that drive vision, motion, hearing and language at different times.

Usage::

    python examples/make_film.py [FOLDER]

writes ``film.mp4``, ``film_words.tsv`` (``text``, ``start``, ``duration`` of each spoken word, in
seconds) and ``film_text.txt`` (the spoken text with its punctuation) to FOLDER, which is this
script's own folder unless given.  Needs numpy, PyAV and the espeak-ng library
(``apt-get install libespeak-ng1``).  Nothing is random: one version of espeak-ng always gives the
same words file.  Another version may speak a little differently and so move the words.
"""

import ctypes
import ctypes.util
import re
import sys
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

WIDTH, HEIGHT, FPS, SECONDS = 320, 180, 25, 40
# At 48 kHz the film is a whole number of 1024-sample AAC frames, so the sound is not padded.
SOUND_RATE = 48_000
VOICE, WORDS_PER_MINUTE = b"en", 166
SPEECH_LEAD = 0.3
LEVEL = 0.1  # RMS of tones and of speech, full scale 1

HARBOUR = (
    "Every morning, the harbour wakes before the town does. Gulls argue on the slate roofs, "
    "and a small boat slides out, slowly, towards the light."
)
CHILD = (
    '"Where does the sea end?" a child asks. '
    "Her grandfather smiles, and says it never learned how to stop."
)


class Scene(NamedTuple):
    """One stretch of the film, from ``start`` up to ``end`` (s)."""

    start: int
    end: int
    picture: str
    moving: bool = False
    tones: bool = False
    speech: str = ""


SCENES = (
    Scene(0, 6, "dot"),
    Scene(6, 12, "grating", moving=True),
    Scene(12, 18, "grating"),
    Scene(18, 24, "dot", tones=True),
    Scene(24, 33, "shapes", speech=HARBOUR),
    Scene(33, 40, "shapes", moving=True, speech=CHILD),
)

# Kind, centre (px), half size (px), RGB colour, and cycles per second of the path in x and in y.
SHAPES = (
    ("disc", (80, 60), 30, (214, 60, 50), (0.50, 0.75)),
    ("square", (165, 115), 28, (50, 110, 210), (0.75, 0.50)),
    ("diamond", (235, 65), 36, (240, 200, 60), (1.00, 0.50)),
)
PATH = (45.0, 28.0)  # px, how far a moving shape goes from its centre in x and in y


class Word(NamedTuple):
    """A spoken word; ``start`` and ``duration`` in s."""

    text: str
    start: float
    duration: float


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of espeak-ng's ``speak_lib.h``; ``name`` stands for the union ``id``."""

    _ints = ("type", "unique_identifier", "text_position", "length", "audio_position", "sample")
    _fields_ = [(name, ctypes.c_int) for name in _ints]
    _fields_ += [("user_data", ctypes.c_void_p), ("name", ctypes.c_char * 8)]


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
# Names of speak_lib.h, without their prefixes.
SYNCHRONOUS, PHONEME_EVENTS, RATE, POS_CHARACTER, UTF8 = 2, 1, 1, 1, 1
EVENT_WORD, EVENT_PHONEME = 1, 7


def load_espeak() -> tuple[ctypes.CDLL, int]:
    """Return libespeak-ng, ready to speak, and the sample rate (Hz) of its sound.

    Without the library or its voices, the program ends with one line that says what to install.
    """
    try:
        espeak = ctypes.CDLL(ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1")
    except OSError:
        sys.exit("make_film: libespeak-ng not found; install it: apt-get install libespeak-ng1")
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS)
    if rate <= 0 or espeak.espeak_SetVoiceByName(VOICE) != 0:
        sys.exit("make_film: espeak-ng has no voices; install them: apt-get install espeak-ng-data")
    espeak.espeak_SetParameter(RATE, WORDS_PER_MINUTE, 0)
    return espeak, rate


def word_times(text: str, onsets: dict[int, float], pauses: list[float]) -> list[Word]:
    """Turn espeak's events into one timed row for each word of the text.

    Parameters
    ----------
    text : str
        The spoken text.
    onsets : dict of int to float
        Onset (s) of the word that starts at each character (from 0) of ``text``.
    pauses : list of float
        Onsets (s) of the pauses, and the end of the speech.

    Returns
    -------
    list of Word
        In order, never overlapping.
    """
    # espeak speaks some pairs ("on the") as one word, with one event: such words share a span.
    spans: list[tuple[float, list[str]]] = []
    for match in re.finditer(r"\w+", text):
        if match.start() in onsets:
            spans.append((onsets[match.start()], []))
        spans[-1][1].append(match.group())
    words = []
    for i, (start, texts) in enumerate(spans):
        following = [onset for onset, _ in spans[i + 1 : i + 2]]
        end = min(following + [pause for pause in pauses if pause > start])
        edges = np.cumsum([0] + [len(t) for t in texts]) / sum(map(len, texts))
        times = np.round(start + edges * (end - start), 3)
        words += [
            Word(t, float(a), round(float(b - a), 3))
            for t, a, b in zip(texts, times[:-1], times[1:], strict=True)
        ]
    return words


def speak(espeak: ctypes.CDLL, rate: int, text: str) -> tuple[np.ndarray, list[Word]]:
    """Speak a text.

    Parameters
    ----------
    espeak, rate : ctypes.CDLL, int
        As `load_espeak` returns them.
    text : str
        What to say.

    Returns
    -------
    sound : ndarray of float, shape (samples,)
        The speech at SOUND_RATE, with RMS LEVEL.
    words : list of Word
        Its words, timed from the start of ``sound``.
    """
    blocks, onsets, pauses = [], {}, []

    @_CALLBACK
    def collect(samples, count, events):
        if samples and count > 0:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).astype(float))
        i = 0
        while events[i].type != 0:
            event, seconds = events[i], events[i].audio_position / 1000
            # Events of no length stand at closing quotation marks, where no word is.
            if event.type == EVENT_WORD and event.length > 0:
                onsets[event.text_position - 1] = seconds
            # espeak's names of pauses all begin with an underscore.
            elif event.type == EVENT_PHONEME and event.name.startswith(b"_"):
                pauses.append(seconds)
            i += 1
        return 0

    espeak.espeak_SetSynthCallback(collect)
    data = text.encode()
    size = ctypes.c_size_t(len(data) + 1)
    espeak.espeak_Synth(data, size, 0, POS_CHARACTER, 0, UTF8, None, None)
    sound = resample(np.concatenate(blocks), rate, SOUND_RATE)
    pauses.append(len(sound) / SOUND_RATE)
    return sound * LEVEL / np.sqrt(np.mean(sound**2)), word_times(text, onsets, pauses)


def resample(sound: np.ndarray, old: int, new: int) -> np.ndarray:
    """Bring a sound, shape (samples,), from ``old`` to ``new`` samples per second (new > old)."""
    step = old // np.gcd(old, new)
    sound = np.pad(sound, (0, -len(sound) % step))
    count = len(sound) * new // old
    return np.fft.irfft(np.fft.rfft(sound), count) * count / len(sound)


def tones(seconds: float) -> np.ndarray:
    """Pips of 0.2 s every 0.3 s at 250 Hz, then from halfway on at 4 kHz; shape (samples,)."""
    time = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    pitch = np.where(time < seconds / 2, 250, 4000)
    within = time % 0.3
    # Ramps of 10 ms, because a hard edge would click at all frequencies.
    gate = np.clip(np.minimum(within, 0.2 - within) / 0.01, 0, 1)
    return LEVEL * np.sqrt(2) * gate * np.sin(2 * np.pi * pitch * time)


def picture(scene: Scene, time: float) -> np.ndarray:
    """Draw a scene ``time`` s after its start: ndarray of uint8, shape (HEIGHT, WIDTH, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    time = time if scene.moving else 0.0
    image = np.full((HEIGHT, WIDTH, 3), 128.0)
    if scene.picture == "grating":
        # 4 cycles across, drifting at 2 Hz: after whole seconds it is where it began.
        image += 120 * np.sin(2 * np.pi * (4 * x / WIDTH - 2 * time))[..., None]
    elif scene.picture == "dot":
        paint(image, np.hypot(x - WIDTH / 2, y - HEIGHT / 2), 3, (30, 30, 30))
    else:
        for kind, centre, size, colour, cycles in SHAPES:
            # Sines start at 0, so that still shapes set off without a jump.
            dx, dy = (
                grid - c - reach * np.sin(2 * np.pi * f * time)
                for grid, c, reach, f in zip((x, y), centre, PATH, cycles, strict=True)
            )
            distance = {
                "disc": np.hypot(dx, dy),
                "square": np.maximum(abs(dx), abs(dy)),
                "diamond": abs(dx) + abs(dy),
            }[kind]
            paint(image, distance, size, colour)
    return image.round().astype(np.uint8)


def paint(image: np.ndarray, distance: np.ndarray, size: float, colour: tuple) -> None:
    """Colour ``image`` (H, W, 3) in place where ``distance`` (H, W; px) is below ``size``."""
    cover = np.clip(size - distance + 0.5, 0, 1)[..., None]
    image += cover * (np.array(colour) - image)


def soundtrack() -> tuple[np.ndarray, list[Word]]:
    """Return the sound, float32 (SECONDS * SOUND_RATE,), and the words in film time (s)."""
    espeak, rate = load_espeak()
    sound, words = np.zeros(SECONDS * SOUND_RATE, np.float32), []
    for scene in SCENES:
        start, part = float(scene.start), np.zeros(0)
        if scene.tones:
            part = tones(scene.end - scene.start)
        elif scene.speech:
            start += SPEECH_LEAD
            part, spoken = speak(espeak, rate, scene.speech)
            words += [w._replace(start=round(start + w.start, 3)) for w in spoken]
        if start + len(part) / SOUND_RATE > scene.end:
            sys.exit(f"make_film: the sound of the scene at {scene.start} s is too long for it")
        first = round(start * SOUND_RATE)
        sound[first : first + len(part)] = part
    return sound, words


def write_film(path: Path, sound: np.ndarray) -> None:
    """Write the pictures of SCENES and ``sound``, shape (SECONDS * SOUND_RATE,), as an MP4 file."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as film:
        # Without B-frames, decoding order is showing order and time stamps start at 0.
        video = film.add_stream("libx264", rate=FPS, options={"crf": "20", "bf": "0"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = film.add_stream("aac", rate=SOUND_RATE, layout="mono", bit_rate=96_000)
        # Sound goes in a picture's worth at a time, so that both streams are interleaved.
        block = SOUND_RATE // FPS
        for i in range(SECONDS * FPS):
            scene = next(s for s in SCENES if s.start <= i / FPS < s.end)
            image = av.VideoFrame.from_ndarray(picture(scene, i / FPS - scene.start), "rgb24")
            image.pts = i
            film.mux(video.encode(image))
            samples = sound[None, i * block : (i + 1) * block]
            chunk = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            chunk.sample_rate, chunk.pts = SOUND_RATE, i * block
            film.mux(audio.encode(chunk))
        film.mux(video.encode())
        film.mux(audio.encode())


def main(folder: Path) -> None:
    """Write the film, its words and its text to ``folder``."""
    sound, words = soundtrack()
    rows = ["text\tstart\tduration"]
    rows += [f"{w.text}\t{w.start:.3f}\t{w.duration:.3f}" for w in words]
    (folder / "film_words.tsv").write_text("\n".join(rows) + "\n")
    text = " ".join(scene.speech for scene in SCENES if scene.speech)
    (folder / "film_text.txt").write_text(text + "\n")
    write_film(folder / "film.mp4", sound)
    print("\n".join(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
