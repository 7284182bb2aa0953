"""Full-size backbones with random weights on a GPU: how near to the hardware extraction comes.

V-JEPA 2 giant, w2v-BERT 2.0 and Llama 3.2 3B in their published sizes, random weights, written to
a folder and loaded as real ones are. For each: seconds of stimulus a second, the fraction of the
rate of matrix products that is measured here in the same precision, peak memory, the ratio to the
plain way (one clip, chunk or word a forward in single precision, timed on a few and multiplied),
and the correlation with the features in single precision.

Usage: python benchmarks/full_size.py [--device cuda] [--precision bf16] [--seconds 60] [--small]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import makers  # noqa: E402
import tribrain  # noqa: E402
from tribrain.features.backbones import PRECISIONS, pick_precision  # noqa: E402
from tribrain.features.extract import compute_pieces, find_backbones  # noqa: E402
from tribrain.features.pieces import Extractors, pieces_of  # noqa: E402
from tribrain.features.recipe import FeatureRecipe  # noqa: E402
from tribrain.files import sha256  # noqa: E402
from tribrain.stimuli.stimulus import Stimulus  # noqa: E402

NAMES = {"text": "llama-3b", "audio": "w2v-bert", "video": "vjepa2-g"}


def write_models(folder: Path, tiny: Path, small: bool) -> None:
    """Models of the published sizes (`small`: an eighth as wide, four blocks) and their helpers."""
    share, blocks = (8, {"vjepa": 4, "bert": 4, "llama": 4}) if small else (1, {})
    video = transformers.VJEPA2Config(
        hidden_size=1408 // share,
        num_hidden_layers=blocks.get("vjepa", 40),
        num_attention_heads=22 // (2 if small else 1),
        mlp_ratio=48 / 11,
        crop_size=256,
        frames_per_clip=64,
        pred_num_hidden_layers=1,
        initializer_range=0.02,
    )
    sound = transformers.Wav2Vec2BertConfig(
        hidden_size=1024 // share,
        intermediate_size=4096 // share,
        num_hidden_layers=blocks.get("bert", 24),
        num_attention_heads=16,
        vocab_size=None,
    )
    words = transformers.LlamaConfig(
        hidden_size=3072 // share,
        intermediate_size=8192 // share,
        num_hidden_layers=blocks.get("llama", 28),
        num_attention_heads=24,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        vocab_size=1000,  # as many words as the tiny tokenizer has; the embedding costs nothing
    )
    kinds: list[tuple[str, Callable[[Any], Any], Any, str]] = [
        ("video", transformers.VJEPA2Model, video, "tiny-vjepa2"),
        ("audio", transformers.Wav2Vec2BertModel, sound, "tiny-w2v-bert"),
        ("text", transformers.LlamaModel, words, "tiny-llama"),
    ]
    for modality, make, config, helper in kinds:
        torch.manual_seed(0)
        target = folder / NAMES[modality]
        make(config).to(torch.bfloat16).save_pretrained(target)
        for file in (tiny / helper).glob("*.json"):
            if file.name != "config.json" and "index" not in file.name:
                (target / file.name).write_bytes(file.read_bytes())
    settings = {"crop_size": {"height": 256}, "size": {"shortest_edge": 292}}
    file = folder / NAMES["video"] / "video_preprocessor_config.json"
    file.write_text(json.dumps(settings))


def matrix_rate(device: str, dtype: torch.dtype, size: int) -> float:
    """Operations a second of a large matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(12):
        synchronise(device)
        start = time.perf_counter()
        a @ b
        synchronise(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / float(np.median(times[2:]))


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def operations(modality: str, config: Any, tokens: float, passes: float) -> float:
    """Multiplications and additions of `passes` forward passes over `tokens` tokens each."""
    width, blocks = config.hidden_size, config.num_hidden_layers
    if modality == "text":
        own = config.num_key_value_heads / config.num_attention_heads
        weights = (2 + 2 * own) * width**2 + 3 * width * config.intermediate_size
    elif modality == "audio":  # two feed-forward parts and a convolution of pairs
        weights = 4 * width**2 + 4 * width * config.intermediate_size + 3 * width**2
    else:
        weights = 4 * width**2 + 2 * width**2 * config.mlp_ratio
    return passes * blocks * (2 * tokens * weights + 4 * tokens**2 * width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--small", action="store_true", help="a try-out on any machine")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", tribrain.InputWarning)
    transformers.logging.set_verbosity_error()
    precision = pick_precision(arguments.precision, arguments.device)
    peak = matrix_rate(arguments.device, PRECISIONS[precision], 1024 if arguments.small else 8192)
    print(f"{arguments.device}, {precision}; torch {torch.__version__}; ", end="")
    print(f"matrix products: {peak / 1e12:.2f} TFLOP/s")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tiny = makers.make_backbones(folder / "tiny")
        write_models(folder / "full", tiny, arguments.small)
        stimulus = make_stimulus(folder, arguments.seconds)
        for modality in ("audio", "text", "video"):
            one_modality(modality, stimulus, folder / "full", arguments.device, precision, peak)


def make_stimulus(folder: Path, seconds: int) -> Stimulus:
    """A 720p film of moving noise with sound, and words all along."""
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 256, (72, 128, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    frames = [np.roll(scene, 3 * number, axis=1) for number in range(24)]
    pictures = [frames[n % 24] for n in range(24 * seconds)]
    sound = rng.normal(size=seconds * 16_000) * 0.1
    film = makers.write_film(folder / "film.mkv", pictures, rate=24, sound=sound)
    rows = [f"{rng.choice(makers.VOCABULARY)}\t{0.4 * n:.1f}\t0.3" for n in range(seconds * 5 // 2)]
    (folder / "words.tsv").write_text("\n".join(["text\tonset\tduration", *rows]))
    return Stimulus.from_video(film, transcript=folder / "words.tsv")


def one_modality(
    modality: str, stimulus: Stimulus, folder: Path, device: str, precision: str, peak: float
) -> None:
    recipe = FeatureRecipe(backbones={modality: NAMES[modality]})
    folders = find_backbones(recipe, [modality], folder)
    extractors = Extractors(recipe, folders, device, precision)
    pieces = pieces_of(stimulus, modality, extractors, sha256)
    backbone, _ = extractors.load(modality)
    tokens: list[tuple[int, int]] = []
    handle = backbone.blocks[0].register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append(
            tuple((args[0] if args else kwargs["hidden_states"]).shape[:2])
        ),
        with_kwargs=True,
    )
    first = next(compute_pieces(pieces, None))  # compiles kernels
    tokens.clear()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    synchronise(device)
    start = time.perf_counter()
    for _ in compute_pieces(pieces, None):
        pass
    synchronise(device)
    spent = time.perf_counter() - start
    work = sum(operations(modality, backbone.model.config, n, batch) for batch, n in tokens)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else float("nan")
    batch, length = tokens[0]
    handle.remove()
    print(
        f"{modality}: {stimulus.duration / spent:.2f} s of stimulus a second, "
        f"{work / spent / peak:.0%} of the matrix rate, {memory:.1f} GiB at the peak "
        f"({batch} passes of {length} tokens together)"
    )
    del extractors, backbone
    single = Extractors(recipe, folders, device, "fp32")
    plain_backbone, _ = single.load(modality)
    exact = next(compute_pieces(pieces_of(stimulus, modality, single, sha256), None))
    r = np.corrcoef(first.ravel(), exact.ravel())[0, 1]
    plain = plain_seconds(modality, plain_backbone, length, stimulus)
    print(f"  r with fp32 {r:.6f}; the plain way {plain / spent:.1f}x as long (extrapolated)")


def plain_seconds(modality: str, backbone: Any, length: int, stimulus: Stimulus) -> float:
    """One word, clip or chunk a forward in single precision, without decoding a film."""
    model, device = backbone.model, backbone.device
    lengths: list[int] = [length]
    count = round(2 * stimulus.duration)
    if modality == "text":  # a pass a word over all before it
        count = len(stimulus.words)
        lengths = [max(1, round(length * share)) for share in (0.25, 0.5, 0.75, 1.0)]
    times = []
    for n in [lengths[0], *lengths]:
        if modality == "text":
            inputs = {"input_ids": torch.zeros(1, n, dtype=torch.long, device=device)}
        elif modality == "audio":
            inputs = {"input_features": torch.randn(1, n, 160, device=device)}
            count = max(1, round(stimulus.duration / 60))
        else:
            edge = model.config.crop_size
            shape = (1, model.config.frames_per_clip, 3, edge, edge)
            inputs = {"pixel_values_videos": torch.randn(shape, device=device)}
            inputs["skip_predictor"] = True
        synchronise(str(device.type))
        start = time.perf_counter()
        with torch.inference_mode():
            model(**inputs, output_hidden_states=True)
        synchronise(str(device.type))
        times.append(time.perf_counter() - start)
    return float(np.mean(times[1:])) * count


if __name__ == "__main__":
    main()
