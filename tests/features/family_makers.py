"""Tiny random models of each family, with what makes their inputs ready, in Hugging Face format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from makers import VOCABULARY
from tribrain.features.families import FAMILIES

TEXT = f"{' '.join(VOCABULARY)} , . ' \" ( ) - ... ! ?"

_TOKENS = {"vocab_size": 400, "max_position_embeddings": 512}
_BLOCKS = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}
_LLAMA = _TOKENS | _BLOCKS | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
_GPT2 = {
    "n_embd": 32,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 512,
    "vocab_size": 400,
    "initializer_range": 0.3,
}
_BERT = _TOKENS | _BLOCKS | {"type_vocab_size": 2, "pad_token_id": 0}
_ROBERTA = _BERT | {"pad_token_id": 1, "max_position_embeddings": 514}
_WAVE = _BLOCKS | {
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}
# What the large models of these families have, where the small ones differ.
_LARGE_WAVE = _WAVE | {
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "conv_bias": True,
}
_PICTURE = _BLOCKS | {"image_size": 32, "patch_size": 8}
_TOWERS = {
    "text_config": _TOKENS | _BLOCKS | {"max_position_embeddings": 16},
    "vision_config": _PICTURE,
}

# Type in config.json, a variant of it where its models differ in their blocks, and the settings.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _LLAMA),
    "mistral": ("mistral", _LLAMA | {"sliding_window": 8}),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3": ("qwen3", _LLAMA),
    "gemma": ("gemma", _LLAMA),
    "gemma2": ("gemma2", _LLAMA | {"sliding_window": 8, "query_pre_attn_scalar": 8}),
    "olmo2": ("olmo2", _LLAMA),
    "phi": ("phi", _TOKENS | _BLOCKS),
    "gpt2": ("gpt2", _GPT2),
    "gpt_neox": ("gpt_neox", _TOKENS | _BLOCKS),
    "opt": ("opt", _TOKENS | _BLOCKS | {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3}),
    "opt-350m": (
        "opt",
        _TOKENS
        | _BLOCKS
        | {
            "ffn_dim": 48,
            "word_embed_proj_dim": 32,
            "do_layer_norm_before": False,
            "init_std": 0.3,
        },
    ),
    "bert": ("bert", _BERT),
    "roberta": ("roberta", _ROBERTA),
    "xlm-roberta": ("xlm-roberta", _ROBERTA),
    "mpnet": ("mpnet", _ROBERTA),
    "electra": ("electra", _BERT | {"embedding_size": 16}),
    "deberta-v2": (
        "deberta-v2",
        _BERT
        | {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "distilbert": (
        "distilbert",
        _TOKENS
        | {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 48, "initializer_range": 0.3},
    ),
    "modernbert": (
        "modernbert",
        _BERT
        | {
            "local_attention": 8,
            "initializer_cutoff_factor": 3.0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "cls_token_id": 2,
            "sep_token_id": 3,
        },
    ),
    "wav2vec2-bert": (
        "wav2vec2-bert",
        _BLOCKS | {"vocab_size": None, "conv_depthwise_kernel_size": 7},
    ),
    "wav2vec2": ("wav2vec2", _WAVE),
    "wav2vec2-large": ("wav2vec2", _LARGE_WAVE),
    "hubert": ("hubert", _WAVE),
    "hubert-large": ("hubert", _LARGE_WAVE),
    "wavlm": ("wavlm", _WAVE),
    "wavlm-large": ("wavlm", _LARGE_WAVE),
    "whisper": (
        "whisper",
        {
            "d_model": 32,
            "encoder_layers": 4,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_layers": 1,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 48,
            "vocab_size": 400,
            "num_mel_bins": 80,
            "init_std": 0.3,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "suppress_tokens": None,
            "begin_suppress_tokens": None,
        },
    ),
    "vjepa2": (
        "vjepa2",
        _BLOCKS
        | {
            "crop_size": 32,
            "patch_size": 16,
            "frames_per_clip": 8,
            "tubelet_size": 2,
            "mlp_ratio": 2,
            "pred_hidden_size": 12,
            "pred_num_attention_heads": 2,
            "pred_num_hidden_layers": 1,
            "pred_num_mask_tokens": 2,
        },
    ),
    "videomae": (
        "videomae",
        _BLOCKS | {"image_size": 32, "patch_size": 16, "num_frames": 8, "tubelet_size": 2},
    ),
    "dinov2": ("dinov2", _PICTURE | {"mlp_ratio": 2}),
    "dinov2_with_registers": (
        "dinov2_with_registers",
        _PICTURE | {"mlp_ratio": 2, "num_register_tokens": 2},
    ),
    "dinov3_vit": ("dinov3_vit", _PICTURE | {"num_register_tokens": 2}),
    "vit": ("vit", _PICTURE),
    "clip": ("clip", _TOWERS),
    "clip_vision_model": ("clip_vision_model", _PICTURE),
    "siglip": ("siglip", _TOWERS),
    "siglip_vision_model": ("siglip_vision_model", _PICTURE),
    "xlnet": (
        "xlnet",
        {
            "vocab_size": 400,
            "d_model": 32,
            "n_layer": 4,
            "n_head": 4,
            "d_inner": 48,
            "initializer_range": 0.3,
        },
    ),
    # language models that the table does not name
    "albert": ("albert", _BERT | {"embedding_size": 16}),
    "bloom": (
        "bloom",
        {"vocab_size": 400, "hidden_size": 32, "n_layer": 4, "n_head": 4, "initializer_range": 0.3},
    ),
    "falcon": ("falcon", _TOKENS | _BLOCKS | {"alibi": False}),
}
UNLISTED = [name for name, (kind, _) in MODELS.items() if kind not in FAMILIES]

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
HALVES = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])


def _cropped(shortest: int, crop: int, statistics: Any, **more: Any) -> dict[str, Any]:
    mean, std = statistics
    return {
        "do_resize": True,
        "do_center_crop": True,
        "do_rescale": True,
        "do_normalize": True,
        "size": {"shortest_edge": shortest},
        "crop_size": {"height": crop, "width": crop},
        "rescale_factor": 1 / 255,
        "image_mean": mean,
        "image_std": std,
        **more,
    }


def _squeezed(edge: int, statistics: Any, **more: Any) -> dict[str, Any]:
    mean, std = statistics
    return {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "size": {"height": edge, "width": edge},
        "rescale_factor": 1 / 255,
        "image_mean": mean,
        "image_std": std,
        **more,
    }


# As published beside the models named, with the fields that say how pictures are made ready.
PICTURE_SETTINGS: dict[str, dict[str, Any]] = {
    # facebook/vjepa2-vitl-fpc64-256
    "vjepa2": _cropped(292, 256, IMAGENET, resample=2),
    # MCG-NJU/videomae-base
    "videomae": _cropped(224, 224, IMAGENET, resample=2),
    # facebook/dinov2-base
    "dinov2": _cropped(256, 224, IMAGENET, resample=3),
    "dinov2_with_registers": _cropped(256, 224, IMAGENET, resample=3),
    # facebook/dinov3-vits16-pretrain-lvd1689m
    "dinov3_vit": _squeezed(224, IMAGENET, resample=2, do_center_crop=None, crop_size=None),
    # google/vit-base-patch16-224
    "vit": _squeezed(224, HALVES, resample=2),
    # openai/clip-vit-base-patch32 states both sizes as numbers
    "clip": _cropped(224, 224, CLIP, resample=3) | {"size": 224, "crop_size": 224},
    "clip_vision_model": _cropped(224, 224, CLIP, resample=3),
    # google/siglip-base-patch16-224
    "siglip": _squeezed(224, HALVES, resample=3),
    "siglip_vision_model": _squeezed(224, HALVES, resample=3),
}


def make_model(folder: Path, name: str, seed: int = 0, scale: float = 1.0, **changes: Any) -> Path:
    """Write a model of `MODELS`, and what makes its inputs ready, as `folder`/`name`.

    `scale` multiplies all its weights; `changes` replace settings of its configuration.
    """
    from transformers import AutoConfig, AutoModel

    kind, settings = MODELS[name]
    path = folder / name
    torch.manual_seed(seed)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **(settings | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases, which start as ones and zeros
                parameter.add_(0.1 * torch.randn_like(parameter))
            parameter.mul_(scale)
    model.save_pretrained(path)
    if kind in PICTURE_SETTINGS:
        _write_picture_settings(path, kind)
    elif kind in _EXTRACTORS:
        _EXTRACTORS[kind](name).save_pretrained(path)
    else:
        make_tokenizer(kind).save_pretrained(path)
    return path


def _write_picture_settings(path: Path, kind: str) -> None:
    """The published settings, made smaller as the tiny models are."""

    def smaller(size: Any) -> Any:
        if isinstance(size, dict):
            return {edge: smaller(length) for edge, length in size.items()}
        return size and round(size * 32 / (256 if kind == "vjepa2" else 224))

    settings = dict(PICTURE_SETTINGS[kind])
    for name in {"size", "crop_size"} & set(settings):
        settings[name] = smaller(settings[name])
    name = "video_preprocessor_config.json" if kind == "vjepa2" else "preprocessor_config.json"
    (path / name).write_text(json.dumps(settings))


def _wave_extractor(name: str) -> Any:
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask="large" in name)


def _mel_extractor(name: str) -> Any:
    from transformers import SeamlessM4TFeatureExtractor

    return SeamlessM4TFeatureExtractor(
        feature_size=80, num_mel_bins=80, sampling_rate=16_000, padding_value=1.0, stride=2
    )


def _whisper_extractor(name: str) -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor()


_EXTRACTORS = {
    "wav2vec2": _wave_extractor,
    "hubert": _wave_extractor,
    "wavlm": _wave_extractor,
    "wav2vec2-bert": _mel_extractor,
    "whisper": _whisper_extractor,
}

_WORD_PIECE = ("bert", "electra", "distilbert", "mpnet")
_UNIGRAM = ("xlm-roberta", "deberta-v2", "albert", "xlnet")
_METASPACE_BPE = ("mistral", "gemma", "gemma2")
_S_TAGS = ("roberta", "xlm-roberta", "mpnet")  # <s> ... </s> rather than [CLS] ... [SEP]


def make_tokenizer(kind: str) -> Any:
    """A tokenizer of the algorithm and with the special tokens of a family."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES.get(kind)
    causal = (family is not None and family.form == "causal") or kind in ("bloom", "falcon")
    begin, end = ("<s>", "</s>") if kind in _S_TAGS or causal else ("[CLS]", "[SEP]")
    special = [begin, "<pad>", end, "<unk>"]  # <pad> is 1, as the positions of roberta take it
    shared = {"vocab_size": 390, "special_tokens": special, "show_progress": False}
    if kind in _WORD_PIECE:
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(**shared)
    elif kind in _UNIGRAM:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **shared)
    elif kind in _METASPACE_BPE:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
        first = "always" if kind == "mistral" else "never"
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=first)
        trainer = trainers.BpeTrainer(**shared)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **shared)
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    # Causal models begin with <s>; the recipe leaves special tokens away there.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A" if causal else f"{begin} $A {end}",
        special_tokens=[(one, tokenizer.token_to_id(one)) for one in (begin, end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token=begin,
        eos_token=end,
        cls_token=begin,
        sep_token=end,
    )
