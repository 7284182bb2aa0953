"""Time to extract features: this package against the plain way, in one run on the same models.

The plain way is ``tests/literal_recipe.py``: a forward pass over its whole context for each word,
frames fetched by seeking and one clip a forward for video, in single precision. It keeps one
container open and seeks where the wanted frame lies behind or far ahead, which is kinder to it
than a seek for every frame; that one is timed on four clips spread over the film and multiplied.
Loading the models is not timed on either side. Both ways give the same numbers, which is checked.

Usage: python benchmarks/features.py [--golden FOLDER] [--words 45 200 1000]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from transformers import AutoFeatureExtractor, AutoTokenizer  # noqa: E402

import literal_recipe  # noqa: E402
import makers  # noqa: E402
import tribrain  # noqa: E402
from tribrain.features import audio, video  # noqa: E402
from tribrain.features.backbones import load_backbone  # noqa: E402
from tribrain.features.extract import find_backbones  # noqa: E402
from tribrain.features.grid import chunks, n_samples  # noqa: E402
from tribrain.features.recipe import FeatureRecipe  # noqa: E402
from tribrain.features.text import word_vectors  # noqa: E402
from tribrain.stimuli.media import iter_audio, probe  # noqa: E402
from tribrain.stimuli.words import Word, read_text, read_transcript, running_text  # noqa: E402

NAMES = {"text": "tiny-llama", "audio": "tiny-w2v-bert", "video": "tiny-vjepa2"}


def timed(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Median time in seconds of some runs, and the last result."""
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return float(np.median(times)), result


def line(what: str, plain: float, ours: float, difference: float, note: str = "") -> None:
    print(
        f"{what:<34}{plain:>10.3f}{ours:>10.3f}{plain / ours:>9.1f}x"
        f"{difference:>12.1e}  {note}".rstrip(),
        flush=True,
    )


def error(ours: np.ndarray, plain: np.ndarray) -> float:
    """Norm of the difference over the norm."""
    return float(np.linalg.norm(ours - plain) / np.linalg.norm(plain))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", type=Path, default=ROOT.parent / "shared/golden/end-to-end")
    parser.add_argument("--words", type=int, nargs="*", default=[45, 200, 1000])
    arguments = parser.parse_args()
    folder: Path = arguments.golden
    if not folder.is_dir():
        sys.exit(f"{folder} is not there; --golden names the folder with clip.mp4 and backbones")
    warnings.simplefilter("ignore", tribrain.InputWarning)
    backbones, clip = folder / "backbones", folder / "clip.mp4"
    recipe = FeatureRecipe(backbones=NAMES)
    folders = find_backbones(recipe, NAMES, backbones)
    loaded = {name: load_backbone(folders[name], name, recipe, "cpu") for name in NAMES}
    for name in NAMES.values():
        literal_recipe.load_model(backbones / name)
    track, sound = probe(clip)
    assert track is not None
    assert sound is not None
    print(f"{clip.name}, {track.duration:g} s; torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads; tiny random backbones, float32")
    print(f"{'':<34}{'plain, s':>10}{'ours, s':>10}{'ratio':>10}{'difference':>12}")
    text_lines(arguments.words, folder, loaded["text"])
    total_plain, total_ours = sound_line(clip, sound, loaded["audio"])
    plain, ours = video_lines(clip, track, loaded["video"], folder)
    print(f"sound and video: {(total_plain + plain) / (total_ours + ours):.1f}x")


def text_lines(counts: list[int], folder: Path, backbone: Any) -> None:
    """The story's words, then longer texts, each word in its context."""
    model = folder / "backbones" / NAMES["text"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    story = read_transcript(folder / "words.tsv")[0], read_text(folder / "story.txt")
    rng = np.random.default_rng(0)
    for count in counts:
        words, text = story
        if count != len(words):
            drawn = rng.choice(makers.VOCABULARY, count).tolist()
            words = [Word(word, 0.4 * i, 0.3) for i, word in enumerate(drawn)]
            text = None
        text_line(words, text, model, tokenizer, backbone)


def text_line(
    words: list[Word], text: str | None, model: Path, tokenizer: Any, backbone: Any
) -> None:
    running, spans = running_text(words, text)
    contexts = literal_recipe.contexts_from_words([w.text for w in words], text)
    # A long text is read at words in even steps, and the time multiplied.
    count = len(words)
    chosen = np.unique(np.linspace(0, count - 1, min(count, 100)).round().astype(int))
    plain, expected = timed(
        lambda: literal_recipe.word_vectors(model, contexts, word_indices=chosen.tolist()), 1
    )
    ours, vectors = timed(lambda: word_vectors(backbone, tokenizer, running, spans))
    line(
        f"text, {count} words",
        plain * count / len(chosen),
        ours,
        error(vectors[chosen], expected),
        "" if len(chosen) == count else f"plain extrapolated from {len(chosen)} words",
    )


def sound_line(clip: Path, track: Any, backbone: Any) -> tuple[float, float]:
    model = backbone.folder.path
    extractor = AutoFeatureExtractor.from_pretrained(model)
    pieces = chunks(track.duration)

    def ours() -> list[np.ndarray]:
        return [
            audio.sound_series(backbone, extractor, samples, track.rate, n_samples(length, 2.0))
            for (_, length), samples in zip(pieces, iter_audio(track, pieces), strict=True)
        ]

    plain_time, expected = timed(lambda: literal_recipe.audio_series(clip, track.duration, model))
    ours_time, series = timed(ours)
    line("sound", plain_time, ours_time, error(series[0], expected[0]))
    return plain_time, ours_time


def video_lines(clip: Path, track: Any, backbone: Any, folder: Path) -> tuple[float, float]:
    model = backbone.folder.path
    preparation = video.FramePreparation.of({}, backbone.model.config.crop_size)
    pieces = chunks(track.duration)

    def ours() -> np.ndarray:
        made = video.clip_vectors(backbone, preparation, track, pieces, frequency=2.0, seconds=4.0)
        return np.concatenate(list(made), axis=-1)

    ours_time, series = timed(ours)
    plain_time, expected = timed(
        lambda: literal_recipe.video_series(clip, track.duration, model), 1
    )
    line("video", plain_time, ours_time, error(series, expected[0]))
    total = n_samples(pieces[0][1], 2.0)
    chosen = np.linspace(1, total, 4).round().astype(int).tolist()
    film = literal_recipe.Film(clip, always_seek=True)
    seeking, expected = timed(
        lambda: literal_recipe.video_chunk(film, pieces[0], model, clip_indices=chosen), 1
    )
    line(
        "video, a seek for every frame",
        seeking * total / len(chosen),
        ours_time,
        error(series[..., np.array(chosen) - 1], expected),
        f"plain extrapolated from {len(chosen)} clips",
    )
    return plain_time, ours_time


if __name__ == "__main__":
    main()
