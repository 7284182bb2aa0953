"""The families of pretrained models that can be read, as a table.

A family says which modality it reads and in what form, where its transformer blocks lie, and what
``transformers`` counts as its last hidden state. To add one, add a row (see CONTRIBUTING.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# How a family is fed:
#   causal         tokens; a token sees those before it, so that words share passes
#   bidirectional  tokens; every word is read in a window of its own that ends with it
#   spectrum       log-mel frames of the model's own feature extractor, a chunk at a time
#   waveform       16 kHz sound, a chunk at a time
#   spectrum_30s   log-mel frames of pieces of 30 s, the last one padded
#   clip           frames of the seconds before a sample
#   picture        the one frame in the middle of a sample
FORMS = ("causal", "bidirectional", "spectrum", "waveform", "spectrum_30s", "clip", "picture")


@dataclass(frozen=True)
class Family:
    """A family of models of ``transformers``, told by ``model_type`` in their config.json.

    Attributes
    ----------
    modality : {"text", "audio", "video"}
    form : str
        One of `FORMS`.
    blocks : str or None
        Place of the transformer blocks in the model (or in `part`); None where the states must be
        asked of the model itself, which keeps all of them in memory.
    norm : str or None
        Norm whose output is the last hidden state, where that is not what leaves the last block.
    part : str or None
        The part of the model that is used.
    class_token : bool
        Whether the first token stands for the whole picture.
    """

    modality: str
    form: str
    blocks: str | None
    norm: str | None = None
    part: str | None = None
    class_token: bool = False


_DECODER = Family("text", "causal", "layers", "norm")
_ENCODER = Family("text", "bidirectional", "encoder.layer")
_WAVEFORM = Family("audio", "waveform", "encoder.layers")
_PICTURE = Family("video", "picture", "encoder.layer", class_token=True)

FAMILIES: dict[str, Family] = {
    # language models that read from left to right
    "llama": _DECODER,
    "mistral": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "gemma": _DECODER,
    "gemma2": _DECODER,
    "olmo2": _DECODER,
    "phi": Family("text", "causal", "layers", "final_layernorm"),
    "gpt2": Family("text", "causal", "h", "ln_f"),
    "gpt_neox": Family("text", "causal", "layers", "final_layer_norm"),
    "opt": Family("text", "causal", "decoder.layers", "decoder.final_layer_norm"),
    # language models that read both ways (MiniLM is a bert)
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "xlm-roberta": _ENCODER,
    "mpnet": _ENCODER,
    "electra": _ENCODER,
    "deberta-v2": _ENCODER,
    "distilbert": Family("text", "bidirectional", "transformer.layer"),
    "modernbert": Family("text", "bidirectional", "layers", "final_norm"),
    "xlnet": Family("text", "bidirectional", None),
    # sound
    "wav2vec2-bert": Family("audio", "spectrum", "encoder.layers"),
    "wav2vec2": _WAVEFORM,
    "hubert": _WAVEFORM,
    "wavlm": _WAVEFORM,
    "whisper": Family("audio", "spectrum_30s", "layers", "layer_norm", part="encoder"),
    # film
    "vjepa2": Family("video", "clip", "encoder.layer"),
    "videomae": Family("video", "clip", "encoder.layer"),
    # pictures, a frame a sample
    "dinov2": _PICTURE,
    "dinov2_with_registers": _PICTURE,
    "dinov3_vit": Family("video", "picture", "model.layer", class_token=True),
    "vit": Family("video", "picture", "layers", class_token=True),
    "clip": Family("video", "picture", "encoder.layers", part="vision_model", class_token=True),
    "clip_vision_model": Family("video", "picture", "encoder.layers", class_token=True),
    "siglip": Family("video", "picture", "encoder.layers", part="vision_model"),
    "siglip_vision_model": Family("video", "picture", "encoder.layers"),
}


def family_of(config: Any) -> Family | None:
    """The family of a model's configuration, None where no modality is known to fit.

    A language model that is not in the table is one that ``transformers`` lists for predicting the
    next word (then it is causal) or masked words (then it reads both ways). One that encodes and
    decodes, or that holds its language model as a part, is none.
    """
    kind = config.model_type
    if kind in FAMILIES:
        return FAMILIES[kind]
    if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "num_hidden_layers"):
        return None
    from transformers.models.auto import modeling_auto

    if kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return Family("text", "bidirectional", None)
    if kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return Family("text", "causal", None)
    return None


def frames_per_clip(config: Any) -> int:
    """Frames that a clip of a video model holds."""
    for name in ("frames_per_clip", "num_frames"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    return 1


def picture_size(config: Any) -> int:
    """Edge in pixels of the pictures that a model reads."""
    config = getattr(config, "vision_config", config)
    for name in ("crop_size", "image_size"):
        size = getattr(config, name, None)
        if isinstance(size, int):
            return size
        if isinstance(size, (list, tuple)) and len(set(size)) == 1:
            return int(size[0])
    raise ValueError(f"a model of type {config.model_type!r} states no picture size")


def tokens_per_picture(config: Any) -> int:
    """Tokens of a clip or picture, roughly; for choosing how many to run together."""
    config = getattr(config, "vision_config", config)
    patch = config.patch_size
    edge = picture_size(config) // (patch if isinstance(patch, int) else patch[0])
    return max(1, frames_per_clip(config) // getattr(config, "tubelet_size", 1)) * edge**2
