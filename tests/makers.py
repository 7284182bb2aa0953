"""Small random models, checkpoints, films and sounds for the tests."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import yaml

# The last six are cut into several tokens by the tokenizer of the tiny language model.
VOCABULARY = (
    "the sea and boat that old man pulled across wet sand in morning where does it end she asked "
    "why light grandfather harbour-side $40 don't 3.5 naïve colour smile"
).split()
FEATURE_DIMS = {"text": (2, 24), "audio": (2, 16), "video": (2, 12)}
N_OUTPUTS = 1284


def make_backbones(folder: Path, seed: int = 0) -> Path:
    """Write a tiny language, speech and video model with random weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        LlamaConfig,
        LlamaModel,
        PreTrainedTokenizerFast,
        SeamlessM4TFeatureExtractor,
        VJEPA2Config,
        VJEPA2Model,
        Wav2Vec2BertConfig,
        Wav2Vec2BertModel,
    )

    torch.manual_seed(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([" ".join(VOCABULARY[:-6]) + ", morning."] * 4, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder / "tiny-llama")
    LlamaModel(
        LlamaConfig(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=len(tokenizer.get_vocab()),
            max_position_embeddings=8192,
            initializer_range=0.2,
        )
    ).save_pretrained(folder / "tiny-llama")

    Wav2Vec2BertModel(
        Wav2Vec2BertConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=4,
            num_attention_heads=4,
            vocab_size=None,
            conv_depthwise_kernel_size=7,
            initializer_range=0.2,
        )
    ).save_pretrained(folder / "tiny-w2v-bert")
    SeamlessM4TFeatureExtractor(
        feature_size=80, num_mel_bins=80, sampling_rate=16_000, padding_value=1.0, stride=2
    ).save_pretrained(folder / "tiny-w2v-bert")

    VJEPA2Model(
        VJEPA2Config(
            hidden_size=12,
            num_hidden_layers=4,
            num_attention_heads=2,
            mlp_ratio=2,
            crop_size=32,
            patch_size=16,
            frames_per_clip=64,
            tubelet_size=2,
            pred_hidden_size=12,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
            pred_num_mask_tokens=2,
            initializer_range=0.2,
        )
    ).save_pretrained(folder / "tiny-vjepa2")
    settings = {
        "crop_size": {"height": 32, "width": 32},
        "size": {"shortest_edge": 36},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "tiny-vjepa2" / "video_preprocessor_config.json").write_text(json.dumps(settings))
    return folder


CONFIG: dict[str, Any] = {
    "data": {
        "features_to_use": ["text", "audio", "video"],
        "text_feature": {"model_name": "tiny-llama"},
        "audio_feature": {"model_name": "tiny-w2v-bert"},
        "video_feature": {"clip_duration": 4.0, "image": {"model_name": "tiny-vjepa2"}},
        "layers_to_use": [0.5, 0.75, 1.0],
        "layer_aggregation": "group_mean",
        "frequency": 2.0,
        "duration_trs": 100,
        "neuro": {"offset": 5.0, "projection": {"mesh": "fsaverage3"}},
        "subject_id": {"predefined_mapping": {"Study/sub-01": 0, "Study/sub-02": 1}},
    },
    "brain_model_config": {
        "projector": {
            "hidden_sizes": None,
            "norm_layer": "layer",
            "activation_layer": "gelu",
            "bias": True,
        },
        "combiner": None,
        "encoder": {
            "heads": 3,
            "depth": 2,
            "ff_mult": 4,
            "use_scalenorm": True,
            "rotary_pos_emb": True,
            "scale_residual": True,
        },
        "time_pos_embedding": True,
        "hidden": 192,
        "max_seq_len": 256,
        "extractor_aggregation": "cat",
        "layer_aggregation": "cat",
        "low_rank_head": 16,
        "temporal_smoothing": None,
    },
}


def published_config(**changes: Any) -> dict[str, Any]:
    """A published configuration; changes by dotted key with ``__`` for the dot."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config


def published_weights(
    config: dict[str, Any], rows: int = 3, seed: int = 0, n_outputs: int = N_OUTPUTS
) -> dict[str, torch.Tensor]:
    """Random weights under the published names (linear projectors, no combiner)."""
    model = config["brain_model_config"]
    hidden, heads, rank = model["hidden"], model["encoder"]["heads"], model["low_rank_head"]
    share = hidden // len(FEATURE_DIMS)
    turned = max(hidden // heads // 2, 32)
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.1

    weights = {
        "time_pos_embed": draw(1, model["max_seq_len"], hidden),
        "predictor.weights": draw(rows, rank or hidden, n_outputs),
        "predictor.bias": draw(rows, n_outputs),
        "encoder.final_norm.g": 1 + draw(1),
        "encoder.rotary_pos_emb.inv_freq": 10_000.0 ** -(torch.arange(0, turned, 2) / turned),
    }
    if rank:
        weights["low_rank_head.weight"] = draw(rank, hidden)
    for name, (layers, dim) in FEATURE_DIMS.items():
        weights[f"projectors.{name}.weight"] = draw(share, layers * dim)
        weights[f"projectors.{name}.bias"] = draw(share)
    for block in range(model["encoder"]["depth"]):
        attention, feedforward = f"encoder.layers.{2 * block}", f"encoder.layers.{2 * block + 1}"
        for part in ("q", "k", "v", "out"):
            weights[f"{attention}.1.to_{part}.weight"] = draw(hidden, hidden)
        weights[f"{feedforward}.1.ff.0.0.weight"] = draw(4 * hidden, hidden)
        weights[f"{feedforward}.1.ff.0.0.bias"] = draw(4 * hidden)
        weights[f"{feedforward}.1.ff.2.weight"] = draw(hidden, 4 * hidden)
        weights[f"{feedforward}.1.ff.2.bias"] = draw(hidden)
        for layer in (attention, feedforward):
            weights[f"{layer}.0.0.g"] = 1 + draw(1)
            weights[f"{layer}.2.residual_scale"] = 1 + draw(hidden)
    return weights


def make_published_checkpoint(
    folder: Path,
    config: dict[str, Any] | None = None,
    weights: dict[str, torch.Tensor] | None = None,
    n_output_timesteps: int = 100,
) -> Path:
    """Write ``config.yaml`` and ``best.ckpt`` in the published format."""
    config = published_config() if config is None else config
    weights = published_weights(config) if weights is None else weights
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    content = {
        "epoch": 1,
        "state_dict": {f"model.{name}": value for name, value in weights.items()},
        "model_build_args": {
            "feature_dims": FEATURE_DIMS,
            "n_outputs": weights["predictor.bias"].shape[-1],
            "n_output_timesteps": n_output_timesteps,
        },
    }
    torch.save(content, folder / "best.ckpt")
    return folder


def write_sound(path: Path, samples: np.ndarray, rate: int) -> Path:
    """Write a WAV file from samples (n,) or (channels, n) in [-1, 1]."""
    from scipy.io import wavfile

    samples = np.atleast_2d(samples)
    wavfile.write(path, rate, (np.clip(samples.T, -1, 1) * 32767).astype(np.int16))
    return path


def write_film(
    path: Path,
    frames: np.ndarray | list[np.ndarray],
    rate: int = 25,
    sound: np.ndarray | None = None,
    sound_rate: int = 16_000,
    times: list[int] | None = None,
) -> Path:
    """Write a film (H.264, AAC) from frames (n, height, width, 3) of uint8.

    `times`, in milliseconds, makes the frame rate vary.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.height, video.width = np.asarray(frames[0]).shape[:2]
        video.pix_fmt = "yuv420p"
        video.options = {"crf": "12", "preset": "ultrafast"}
        if times is not None:
            from fractions import Fraction

            video.codec_context.time_base = Fraction(1, 1000)
        audio = None
        if sound is not None:
            audio = container.add_stream("aac", rate=sound_rate, layout="mono")
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times is not None:
                from fractions import Fraction

                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(np.atleast_2d(sound).astype(np.float32)),
                format="fltp",
                layout="mono",
            )
            block.sample_rate = sound_rate
            container.mux(audio.encode(block))
            container.mux(audio.encode())
    return path


def word_vectors(
    backbone: Any,
    tokenizer: Any,
    running: str,
    spans: list[tuple[int, int]],
    *,
    context_words: int = 1024,
    stride: int = 512,
    exact: bool = True,
) -> np.ndarray:
    """Vectors of all words of a text, (n_words, layers, dim), piece by piece."""
    from tribrain.features.text import piece_vectors, text_pieces

    pieces = text_pieces(running, spans, limit=context_words, stride=stride, exact=exact)
    return np.concatenate(
        [piece_vectors(backbone, tokenizer, running, spans, piece) for piece in pieces]
    )


def textbook_visual(track: Any, n: int, frequency: float) -> np.ndarray:
    """The five film features of the textbook model, (5, n)."""
    from tribrain.encoder.textbook import RECIPE
    from tribrain.features.visual import visual_pieces

    return next(visual_pieces(track, RECIPE.simple["video"], [(0, n)], frequency))


def textbook_sound(track: Any, n: int, frequency: float) -> np.ndarray:
    """The four sound features of the textbook model, (4, n)."""
    from tribrain.encoder.textbook import RECIPE
    from tribrain.features.sound import sound_pieces

    return next(sound_pieces(track, RECIPE.simple["audio"], [(0, n)], frequency))
