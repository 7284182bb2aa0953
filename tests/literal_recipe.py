"""The feature recipe done the slow, literal way: a reference for tests and benchmarks.

Nothing is shared: every word re-reads its whole context in a forward pass of its own, every clip
fetches its own 64 frames one at a time and goes through the network alone, in single precision.
A seek for every frame would decode from the keyframe 64 times a clip; `Film` does what common film
readers do instead: one container stays open, and it seeks only if the wanted frame is behind the
current one or far ahead, else it decodes forward. `Film(path, always_seek=True)` always seeks.

Layers are given as depths in [0, 1]: a sequence means group means, one number means one state.
A series is (layers, dim, samples), float32, at 2 samples a second. Times are in seconds.
"""

import itertools
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import av
import julius
import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer

File = str | Path  # of a backbone: the folder of a model in Hugging Face format
Depths = float | Sequence[float]
Some = Sequence[int] | None  # indices of what to compute; None for all
Context = tuple[str, str]  # running text up to a word, the word
Event = tuple[float, float]  # start, duration
Word = tuple[str, float, float]  # text, start, duration
GROUPS = (0.5, 0.75, 1.0)
FRAMES, CLIP_SECONDS, FAR_AHEAD = 64, 4, 100
MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


@lru_cache
def load_model(backbone: File) -> torch.nn.Module:
    """Load a backbone in float32 for inference; it stays loaded."""
    return AutoModel.from_pretrained(backbone, dtype=torch.float32).eval()


def layer_indices(depths: Sequence[float], n_states: int) -> list[int]:
    """Index of the hidden state at each depth."""
    return [int(f * (n_states - 1)) for f in depths]


def group_mean(states: torch.Tensor, depths: Depths) -> torch.Tensor:
    """Reduce the hidden states, (n_states, ...), to the layers asked for, (layers, ...)."""
    if isinstance(depths, int | float):
        return states[layer_indices([depths], len(states))]
    borders = layer_indices(depths, len(states))
    borders[-1] += 1  # the last state belongs to the last group
    return torch.stack([states[i:j].mean(0) for i, j in itertools.pairwise(borders)])


def place(start: float, duration: float, window: float, samples: int) -> tuple[int, int] | None:
    """First sample and number of samples of an event in the window that starts at `window`."""
    a, b = max(start, window), min(start + duration, window + samples / 2)
    if b < a or (b == a and duration > 0):
        return None
    first, count = round(2 * (a - window)), max(1, round(2 * (b - a)))
    return min(first, samples - count), count


def on_grid(
    events: Sequence[Event], series: Sequence[np.ndarray], n_windows: int, window_seconds: int
) -> np.ndarray:
    """Add each event's series, (layers, dim, n), window by window: (layers, dim, all samples)."""
    samples = 2 * window_seconds
    grid = np.zeros((*series[0].shape[:2], n_windows * samples), np.float32)
    for (start, duration), values in zip(events, series, strict=True):
        n = values.shape[2]
        for w in range(n_windows):
            if placed := place(start, duration, w * window_seconds, samples):
                first, count = placed[0] + w * samples, placed[1]
                own = round(2 * max(0, w * window_seconds - start))
                own = max(0, min(own, n - count)) + np.arange(count)
                grid[:, :, first : first + count] += values[:, :, np.minimum(own, n - 1)]
    return grid


def chunks(duration: float) -> list[Event]:
    """Cut a medium every 60 s, with no last piece under 30 s: (start, duration) of each."""
    cuts = [0.0]
    while duration - (cuts[-1] + 60) >= 30:
        cuts.append(cuts[-1] + 60)
    return [(a, b - a) for a, b in itertools.pairwise([*cuts, duration])]


def contexts_from_words(words: list[str], text: str | None, limit: int = 1024) -> list[Context]:
    """(context, word) of each word: the running text up to it, at most its last `limit` words."""
    text = " ".join(words) if text is None else text
    contexts, position = [], 0
    for word in words:
        found = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)").search(text, position)
        if found is None:
            raise ValueError(f"the word {word!r} is not in the text after character {position}")
        position = found.end()
        starts = [m.start() for m in re.finditer(r"\S+", text[:position])]
        contexts.append((text[starts[-limit:][0] : position], word))
    return contexts


@torch.inference_mode()
def word_vectors(
    backbone: File, contexts: list[Context], layers: Depths = GROUPS, word_indices: Some = None
) -> np.ndarray:
    """Pass over each word's context, mean over the word's own tokens: (n_words, layers, dim)."""
    model, tokenizer = load_model(backbone), AutoTokenizer.from_pretrained(backbone)
    indices = range(len(contexts)) if word_indices is None else word_indices
    n_layers = 1 if isinstance(layers, int | float) else len(layers) - 1
    vectors = np.zeros((len(indices), n_layers, model.config.hidden_size), np.float32)
    for row, index in enumerate(indices):
        context, word = contexts[index]
        prefix = context.removesuffix(word).removesuffix(" ")
        ids = tokenizer(context, add_special_tokens=False)["input_ids"]
        n_own = max(1, len(ids) - len(tokenizer(prefix, add_special_tokens=False)["input_ids"]))
        output = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        states = torch.stack([state[0, -n_own:].mean(0) for state in output.hidden_states])
        vectors[row] = group_mean(states, layers).numpy()
    return vectors


def text_series(
    words: Sequence[Word], vectors: np.ndarray, n_windows: int, window_seconds: int
) -> np.ndarray:
    """Sum the words' vectors, (n_words, layers, dim), on the grid: (layers, dim, samples)."""
    if len(words) == 0:
        return np.zeros((*vectors.shape[1:], n_windows * 2 * window_seconds), np.float32)
    return on_grid([word[1:] for word in words], vectors[..., None], n_windows, window_seconds)


def stream_duration(path: File, kind: str) -> float | None:
    """Duration of a file's first "audio" or "video" stream, None without one."""
    with av.open(str(path)) as container:
        streams = [s for s in container.streams if s.type == kind]
        if streams and streams[0].duration is None:  # some formats only know the whole file's
            return container.duration / av.time_base
        return float(streams[0].duration * streams[0].time_base) if streams else None


def read_sound(path: File) -> tuple[np.ndarray, int]:
    """All samples of a file's first audio stream, (channels, n) float32, and their rate."""
    with av.open(str(path)) as container:
        stream, to_float = container.streams.audio[0], av.AudioResampler(format="fltp")
        frames = [f for g in [*container.decode(stream), None] for f in to_float.resample(g)]
        return np.concatenate([f.to_ndarray() for f in frames], axis=1), stream.rate


@torch.inference_mode()
def audio_chunk(
    sound: np.ndarray, rate: int, chunk: Event, backbone: File, layers: Depths = GROUPS
) -> np.ndarray:
    """Series of one chunk of a sound, (channels, n): (layers, dim, round(2 * duration))."""
    start, duration = chunk
    piece = sound[:, round(start * rate) : round((start + duration) * rate)]
    wave = julius.resample_frac(torch.from_numpy(piece).mean(0), rate, 16000)
    wave = (wave - wave.mean()) / (1e-8 + wave.std())
    extractor = AutoFeatureExtractor.from_pretrained(backbone)
    inputs = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt")
    output = load_model(backbone)(**inputs, output_hidden_states=True)
    states = group_mean(torch.stack([state[0] for state in output.hidden_states]), layers)
    return torch.nn.functional.interpolate(states.mT, round(2 * duration)).numpy()


def audio_series(
    path: File, duration: float, backbone: File, layers: Depths = GROUPS, chunk_indices: Some = None
) -> list[np.ndarray]:
    """`audio_chunk` of each of `chunks(duration)`, or of those in `chunk_indices`."""
    sound, rate = read_sound(path)
    indices = range(len(chunks(duration))) if chunk_indices is None else chunk_indices
    return [audio_chunk(sound, rate, chunks(duration)[i], backbone, layers) for i in indices]


class Film:
    """An open film whose frames are fetched by number; time 0 is its first frame."""

    def __init__(self, path: File, always_seek: bool = False) -> None:
        """Open the film and read the timestamps of all its frames, without decoding."""
        self.container = av.open(str(path))
        self.stream = self.container.streams.video[0]
        packets = self.container.demux(self.stream)
        self.pts = sorted(p.pts for p in packets if p.pts is not None and not p.is_discard)
        self.fps = float(self.stream.average_rate)
        self.times = (np.array(self.pts) - self.pts[0]) * float(self.stream.time_base)
        drift = self.times - np.arange(len(self.pts)) / self.fps
        self.constant_rate = bool(np.abs(drift).max() < 0.5 / self.fps)
        self.always_seek, self.position = always_seek, math.inf

    def number(self, time: float) -> int:
        """Number of the frame shown at a time of the file; past the end, the last one."""
        if self.constant_rate:
            return min(int(self.fps * time + 1e-5), len(self.pts) - 1)
        return int(np.searchsorted(self.times, time + 1e-5 / self.fps, side="right")) - 1

    def frame(self, number: int) -> np.ndarray:
        """Fetch one frame: (height, width, 3) uint8."""
        wanted = self.pts[number]
        if self.always_seek or not 0 <= number - self.position <= FAR_AHEAD:
            for target in (wanted, min(0, self.pts[0])):  # the start if the seek went too far
                self.container.seek(target, stream=self.stream)  # a keyframe at or before it
                self.decoder = self.container.decode(self.stream)
                self.current = next(self.decoder, None)
                if self.current is not None and self.current.pts <= wanted:
                    break
        while self.current.pts < wanted:
            self.current = next(self.decoder)
        self.position = number
        return self.current.to_ndarray(format="rgb24")


def preprocess(frames: np.ndarray, crop: int) -> torch.Tensor:
    """Resize, centre crop, normalise: (n, height, width, 3) uint8 to (n, 3, crop, crop) float32."""
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
    short, edge = min(x.shape[2:]), int(crop * 256 / 224)
    height, width = (int(edge * side / short) for side in x.shape[2:])
    x = torch.nn.functional.interpolate(x, (height, width), mode="bilinear", antialias=True)
    top, left = (height - crop) // 2, (width - crop) // 2
    return (x[:, :, top : top + crop, left : left + crop].float() / 255 - MEAN) / STD


@torch.inference_mode()
def video_clip(
    film: Film, chunk: Event, k: int, backbone: File, layers: Depths = GROUPS
) -> np.ndarray:
    """Vector, (layers, dim), of sample k = 1..n of a chunk, n = round(2 * duration)."""
    (start, duration), model = chunk, load_model(backbone)
    t = duration * k / round(2 * duration)
    times = [max(0.0, t - (FRAMES - 1 - j) * CLIP_SECONDS / FRAMES) for j in range(FRAMES)]
    frames = np.stack([film.frame(film.number(start + time)) for time in times])
    pixels = preprocess(frames, model.config.crop_size)[None]
    output = model(pixels, skip_predictor=True, output_hidden_states=True)
    states = torch.stack([state[0].mean(0) for state in output.hidden_states])
    return group_mean(states, layers).numpy()


def video_chunk(
    film: Film, chunk: Event, backbone: File, layers: Depths = GROUPS, clip_indices: Some = None
) -> np.ndarray:
    """Series, (layers, dim, n), of the samples k = 1..n of a chunk or those in `clip_indices`."""
    indices = range(1, round(2 * chunk[1]) + 1) if clip_indices is None else clip_indices
    return np.stack([video_clip(film, chunk, k, backbone, layers) for k in indices], axis=2)


def video_series(
    path: File, duration: float, backbone: File, layers: Depths = GROUPS, chunk_indices: Some = None
) -> list[np.ndarray]:
    """`video_chunk` of each of `chunks(duration)`, or of those in `chunk_indices`."""
    indices = range(len(chunks(duration))) if chunk_indices is None else chunk_indices
    film = Film(path)
    return [video_chunk(film, chunks(duration)[i], backbone, layers) for i in indices]


def features(
    film: File | None,
    words: Sequence[Word],
    text: str | None,
    backbones: dict[str, File],
    window_seconds: int = 100,
    layers: Depths = GROUPS,
    video_duration: float | None = None,
    audio_duration: float | None = None,
) -> dict[str, np.ndarray]:
    """Features of a film and its words, for each modality that it has and that has a backbone.

    Parameters
    ----------
    film : the file with the sound and the pictures; None if there are only words
    words : (text, start, duration) in time; those that start after the film's end are dropped
    text : the running text with punctuation, if known
    backbones : any of "text", "audio" and "video" to a folder
    video_duration, audio_duration : read from the streams if not given

    Returns
    -------
    modality to (layers, dim, n_windows * 2 * window_seconds), zeros after the end
    """
    durations = {"audio": audio_duration, "video": video_duration}
    for kind in durations:
        if durations[kind] is None and film is not None:
            durations[kind] = stream_duration(film, kind)
    ends = [d for d in durations.values() if d is not None]
    words = [word for word in words if not ends or word[1] < max(ends)]
    end = max(ends or [start + d for _, start, d in words])
    n_windows, result = math.ceil(end / window_seconds), {}
    if "text" in backbones:
        contexts = contexts_from_words([word[0] for word in words], text)
        vectors = word_vectors(backbones["text"], contexts, layers)
        result["text"] = text_series(words, vectors, n_windows, window_seconds)
    for kind, extract in (("audio", audio_series), ("video", video_series)):
        if kind in backbones and durations[kind] is not None:
            series = extract(film, durations[kind], backbones[kind], layers)
            result[kind] = on_grid(chunks(durations[kind]), series, n_windows, window_seconds)
    return result
