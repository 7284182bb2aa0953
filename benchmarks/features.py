"""Time to extract features: this package against the plain way, in one run on the same models.

The plain way is ``tests/literal_recipe.py``: a forward pass over its whole context for each word,
a film's frames fetched one at a time by seeking and one clip a forward, in single precision. Its
reader keeps one container open and seeks where the wanted frame lies behind or far ahead (as
moviepy's does); ``seek for every frame`` is the same without that. Where the plain way would take
hours it is timed on words or clips spread over the stimulus and multiplied. Both ways give the
same numbers, which is checked.

Usage: python benchmarks/features.py [--shared FOLDER] [--minutes 10] [--words 45 200 1000 4000]
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import literal_recipe  # noqa: E402
import makers  # noqa: E402
import tribrain  # noqa: E402
from tribrain.features.extract import compute_pieces, find_backbones  # noqa: E402
from tribrain.features.frames import prepared_frames  # noqa: E402
from tribrain.features.grid import chunks, n_samples  # noqa: E402
from tribrain.features.pieces import Extractors, pieces_of  # noqa: E402
from tribrain.features.recipe import FeatureRecipe, load_recipe  # noqa: E402
from tribrain.features.video import clip_frames  # noqa: E402
from tribrain.files import sha256  # noqa: E402
from tribrain.stimuli.media import iter_audio, iter_frames  # noqa: E402
from tribrain.stimuli.stimulus import Stimulus  # noqa: E402
from tribrain.stimuli.words import Word, running_text  # noqa: E402

NAMES = {"text": "tiny-llama", "audio": "tiny-w2v-bert", "video": "tiny-vjepa2"}
SAMPLED = 20  # clips or chunks of the plain way that are timed and multiplied


def timed(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work(*arguments, **options)
    return time.perf_counter() - start, result


def line(what: str, plain: float, ours: float, difference: float | None, note: str = "") -> None:
    shown = "" if difference is None else f"{difference:.1e}"
    row = f"{what:<36}{plain:>10.2f}{ours:>10.2f}{plain / ours:>9.1f}x{shown:>11}  {note}"
    print(row.rstrip(), flush=True)


def error(ours: np.ndarray, plain: np.ndarray) -> float:
    """Norm of the difference over the norm."""
    return float(np.linalg.norm(ours - plain) / np.linalg.norm(plain))


def series_of(stimulus: Stimulus, modality: str, extractors: Extractors) -> np.ndarray:
    """All of a modality, joined in time (or over words), without a store."""
    pieces = pieces_of(stimulus, modality, extractors, sha256)
    arrays = list(compute_pieces(pieces, None))
    return np.concatenate(arrays, axis=0 if pieces.of_words else -1)


def looped(source: Path, target: Path, seconds: float) -> Path:
    """The packets of a film's video and sound, copied end to end until it lasts so long."""
    with av.open(str(target), "w") as out:
        with av.open(str(source)) as first:
            streams = [s for s in (first.streams.best("video"), first.streams.best("audio")) if s]
            copies = {s.index: out.add_stream_from_template(s) for s in streams}
            length = first.duration / av.time_base
        latest: dict[int, int] = {}
        for number in range(round(seconds / length)):
            with av.open(str(source)) as one:
                for packet in one.demux([one.streams[index] for index in copies]):
                    if packet.dts is None:
                        continue
                    index = packet.stream.index
                    shift = round(number * length / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    # Where the copies overlap by an encoder's lead-in, that is left out.
                    if packet.dts > latest.get(index, packet.dts - 1):
                        latest[index] = packet.dts
                        packet.stream = copies[index]
                        out.mux(packet)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--words", type=int, nargs="*", default=[45, 200, 1000, 4000])
    parser.add_argument("--whole", choices=["plain", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    golden = arguments.shared / "golden" / "end-to-end"
    if not golden.is_dir():
        sys.exit(f"{golden} is not there; --shared names the folder that holds it")
    warnings.simplefilter("ignore", tribrain.InputWarning)
    recipe = FeatureRecipe(backbones=NAMES, exact_context=True)
    extractors = Extractors(recipe, find_backbones(recipe, NAMES, golden / "backbones"))
    if arguments.whole:
        whole_run(arguments.whole, golden, extractors)
        return
    for name in NAMES:
        extractors.load(name)
        literal_recipe.load_model(golden / "backbones" / NAMES[name])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; tiny random backbones,")
    print("float32; difference: its norm over the norm; extr.: extrapolated")
    print(f"{'':<36}{'plain, s':>10}{'ours, s':>10}{'ratio':>10}{'difference':>11}")
    golden_lines(golden, extractors)
    text_lines(arguments.words, golden, extractors)
    with tempfile.TemporaryDirectory() as folder:
        media_lines(arguments, Path(folder), golden, extractors)


def golden_stimulus(golden: Path) -> Stimulus:
    return Stimulus.from_video(
        golden / "clip.mp4", transcript=golden / "words.tsv", text=golden / "story.txt"
    )


def plain_features(golden: Path, stimulus: Stimulus) -> dict[str, np.ndarray]:
    assert stimulus.text is not None
    folders = {modality: golden / "backbones" / name for modality, name in NAMES.items()}
    words = [(word.text, word.start, word.duration) for word in stimulus.words]
    return literal_recipe.features(stimulus.path, words, stimulus.text, folders, window_seconds=20)


def whole_run(way: str, golden: Path, extractors: Extractors) -> None:
    """The golden clip from a fresh process to its features."""
    stimulus = golden_stimulus(golden)
    if way == "plain":
        plain_features(golden, stimulus)
    else:
        for name in NAMES:
            series_of(stimulus, name, extractors)


def golden_lines(golden: Path, extractors: Extractors) -> None:
    stimulus = golden_stimulus(golden)
    plain, _ = timed(lambda: plain_features(golden, stimulus))
    series_of(stimulus, "video", extractors)  # the first pass of a process is slower
    ours, _ = timed(lambda: [series_of(stimulus, name, extractors) for name in NAMES])
    line("16 s clip, all three", plain, ours, None)
    seconds = []
    for way in ("plain", "ours"):
        command = [sys.executable, __file__, "--shared", str(golden.parents[1]), "--whole", way]
        spent, _ = timed(subprocess.run, command, check=True, capture_output=True)
        seconds.append(spent)
    line("  in a fresh process", *seconds, None, "start and loading on both sides")
    model = golden / "backbones" / NAMES["video"]
    assert stimulus.video is not None
    total = n_samples(stimulus.video.duration, 2.0)
    chosen = np.linspace(1, total, 4).round().astype(int)
    film = literal_recipe.Film(stimulus.path, always_seek=True)
    ours, series = timed(lambda: series_of(stimulus, "video", extractors))
    spent, expected = timed(
        lambda: literal_recipe.video_chunk(film, (0.0, 16.0), model, clip_indices=chosen.tolist())
    )
    note = f"a seek for every frame; extr. from {len(chosen)} clips"
    line("  video", spent * total / 4, ours, error(series[..., chosen - 1], expected), note)


def text_lines(counts: list[int], golden: Path, extractors: Extractors) -> None:
    """Texts of growing length, each word in its context; ours exact, and with strides."""
    model = golden / "backbones" / NAMES["text"]
    backbone, tokenizer = extractors.load("text")
    rng = np.random.default_rng(0)
    for count in counts:
        drawn = rng.choice(makers.VOCABULARY, count).tolist()
        running, spans = running_text([Word(w, 0.4 * i, 0.3) for i, w in enumerate(drawn)], None)
        contexts = literal_recipe.contexts_from_words(drawn, None)
        chosen = np.unique(np.linspace(0, count - 1, min(count, 100)).round().astype(int))
        plain, expected = timed(
            literal_recipe.word_vectors, model, contexts, word_indices=chosen.tolist()
        )
        note = "" if len(chosen) == count else f"extr. from {len(chosen)} words"
        for exact in (True, False) if count > 1024 else (True,):
            ours, vectors = timed(
                makers.word_vectors, backbone, tokenizer, running, spans, exact=exact
            )
            kind = "" if exact else ", strides"
            difference = error(vectors[chosen], expected)
            line(f"text, {count} words{kind}", plain * count / len(chosen), ours, difference, note)


def media_lines(
    arguments: argparse.Namespace, folder: Path, golden: Path, extractors: Extractors
) -> None:
    bunny = arguments.shared / "data/stimuli/big-buck-bunny-30s/big_buck_bunny_0_30.webm"
    seconds = 60 * arguments.minutes
    large = looped(bunny, folder / "large.mkv", seconds)
    small = looped(golden / "clip.mp4", folder / "small.mkv", seconds)
    for path in (small, large):
        stimulus = Stimulus.from_video(path)
        assert stimulus.video is not None
        assert stimulus.audio is not None
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            assert isinstance(stream, av.VideoStream)
            size = f"{stream.width}x{stream.height} {stream.codec_context.name}"
        print(f"\nfilm of {stimulus.duration:.0f} s, {size}, {stimulus.audio.rate} Hz")
        video_line(stimulus, golden, extractors)
        decoding_line(stimulus, extractors)
        sound_line(stimulus, golden, extractors)
        growth(stimulus, extractors)


def video_line(stimulus: Stimulus, golden: Path, extractors: Extractors) -> None:
    """The whole of video; the plain way on clips spread over the film."""
    assert stimulus.video is not None
    ours, series = timed(lambda: series_of(stimulus, "video", extractors))
    cut = chunks(stimulus.video.duration)
    model = golden / "backbones" / NAMES["video"]
    places = [(n, k) for n, (_, d) in enumerate(cut) for k in range(1, n_samples(d, 2.0) + 1)]
    chosen = [places[i] for i in np.linspace(0, len(places) - 1, SAMPLED).round().astype(int)]
    film = literal_recipe.Film(stimulus.path)
    spent, expected = timed(
        lambda: np.concatenate(
            [literal_recipe.video_chunk(film, cut[n], model, clip_indices=[k]) for n, k in chosen],
            axis=-1,
        )
    )
    found = series[..., [places.index(place) for place in chosen]]
    line(
        "video", spent * len(places) / SAMPLED, ours, error(found, expected), "extr. from 20 clips"
    )
    print(f"{'':<36}{'':>10}{stimulus.duration / ours:>9.1f}x real time")


def decoding_line(stimulus: Stimulus, extractors: Extractors) -> None:
    """Decoding and preprocessing alone, and their parts."""
    track = stimulus.video
    assert track is not None
    backbone, preparation = extractors.load("video")
    cut = chunks(track.duration)
    frames = backbone.model.config.frames_per_clip
    plans = [clip_frames(track, c, n_samples(c[1], 2.0), seconds=4.0, frames=frames) for c in cut]
    every = np.unique(np.concatenate([plan.ravel() for plan in plans])).tolist()
    ours, _ = timed(
        lambda: sum(1 for _ in prepared_frames(track, every, preparation, backbone.device))
    )
    film = literal_recipe.Film(track.path)
    clips = [clip for plan in plans for clip in plan]
    chosen = [clips[i] for i in np.linspace(0, len(clips) - 1, SAMPLED).round().astype(int)]

    def plain() -> None:
        for clip in chosen:
            frames = np.stack([film.frame(int(number)) for number in clip])
            literal_recipe.preprocess(frames, backbone.model.config.crop_size)

    spent, _ = timed(plain)
    line("decoding and preprocessing", spent * len(clips) / SAMPLED, ours, None, "extr.")
    to_rgb, _ = timed(lambda: sum(1 for _ in iter_frames(track, every)))

    def decode() -> None:
        with av.open(str(track.path)) as container:
            stream = container.streams[track.stream]
            stream.thread_type = "AUTO"
            for _ in container.decode(stream):
                pass

    alone, _ = timed(decode)
    parts = f"decoder {alone:.1f} s, with RGB {to_rgb:.1f} s, with resizing {ours:.1f} s"
    print(f"  {parts} ({len(every)} of {len(track.frame_times)} frames)")


def sound_line(stimulus: Stimulus, golden: Path, extractors: Extractors) -> None:
    track = stimulus.audio
    assert track is not None
    ours, series = timed(lambda: series_of(stimulus, "audio", extractors))
    model = golden / "backbones" / NAMES["audio"]
    plain, expected = timed(
        lambda: literal_recipe.audio_series(stimulus.path, track.duration, model)
    )
    line("sound", plain, ours, error(series, np.concatenate(expected, axis=-1)))
    reading, _ = timed(lambda: sum(1 for _ in iter_audio(track, chunks(track.duration))))
    print(f"{'':<36}{'':>10}{track.duration / ours:>9.1f}x real time; decoding {reading:.1f} s")


def growth(stimulus: Stimulus, extractors: Extractors) -> None:
    """Cost against length, and the simple features of the preset ``lite``."""
    lite = Extractors(load_recipe("lite"))
    rows = []
    for part in (4, 2, 1):
        shorter = _first(stimulus, part)
        spent = [
            timed(series_of, shorter, modality, one)[0]
            for one in (extractors, lite)
            for modality in ("audio", "video")
        ]
        rows.append((shorter.duration, spent))
    for duration, spent in rows:
        shown = ", ".join(f"{s:.1f}" for s in spent)
        print(f"  {duration:.0f} s of film: sound, video, lite sound, lite video take {shown} s")


def _first(stimulus: Stimulus, part: int) -> Stimulus:
    """The first part of a stimulus, by cutting what its tracks say they last."""
    assert stimulus.video is not None
    assert stimulus.audio is not None
    video = dataclasses.replace(stimulus.video, duration=stimulus.video.duration / part)
    audio = dataclasses.replace(stimulus.audio, duration=stimulus.audio.duration / part)
    return dataclasses.replace(
        stimulus, video=video, audio=audio, duration=stimulus.duration / part
    )


if __name__ == "__main__":
    main()
