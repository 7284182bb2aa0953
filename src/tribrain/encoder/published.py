"""The published checkpoint format, read safely: ``config.yaml`` and ``best.ckpt``.

Neither file may run anything. Of the Python tags that YAML knows, two are read (an ordered dict
and a path, both as plain data), and the weights are read with ``weights_only=True``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tribrain.errors import InputError
from tribrain.features.recipe import FeatureRecipe
from tribrain.files import one_line

# Options of the published network that no released checkpoint uses; any other value is refused.
_FIXED = {
    "linear_baseline": (False,),
    "subject_embedding": (False,),
    "encoder.cross_attend": (False,),
    "encoder.causal": (False,),
    "encoder.use_scalenorm": (True,),
    "encoder.use_rmsnorm": (False,),
    "encoder.rel_pos_bias": (False,),
    "encoder.alibi_pos_bias": (False,),
    "encoder.rotary_pos_emb": (True,),
    "encoder.rotary_xpos": (False,),
    "encoder.residual_attn": (False,),
    "encoder.scale_residual": (True,),
    "projector.activation_layer": ("gelu",),
    "combiner.activation_layer": ("gelu",),
    "projector.norm_layer": ("layer", None),
    "combiner.norm_layer": ("layer", None),
}


class _ConfigLoader(yaml.SafeLoader):
    """YAML's safe loader and the two tags of the published files."""


def _ordered_dict(loader: yaml.SafeLoader, node: yaml.Node) -> dict[str, Any]:
    # !!python/object/apply:collections.OrderedDict [[[key, value], ...]]
    arguments = loader.construct_sequence(node, deep=True)  # type: ignore[arg-type]
    pairs = arguments[0] if arguments else []
    return {str(key): value for key, value in pairs}


def _posix_path(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    parts = [str(part) for part in loader.construct_sequence(node)]  # type: ignore[arg-type]
    return "/".join(parts).replace("//", "/")


_TAG = "tag:yaml.org,2002:python/object/apply:"
_ConfigLoader.add_constructor(_TAG + "collections.OrderedDict", _ordered_dict)
_ConfigLoader.add_constructor(_TAG + "pathlib.PosixPath", _posix_path)
_KNOWN_TAGS = {*_ConfigLoader.yaml_constructors, "tag:yaml.org,2002:merge"}


def _check_tags(root: yaml.Node | None) -> None:
    """Refuse any unknown tag, also where YAML would not look at it (merged keys, ordered maps)."""
    waiting = [] if root is None else [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.tag not in _KNOWN_TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise InputError(
                f"the tag {one_line(tag)} is not read (it could run a program); only "
                "!!python/object/apply:collections.OrderedDict and ...:pathlib.PosixPath are"
            )
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def read_config(path: Path) -> dict[str, Any]:
    """Read a published ``config.yaml`` as plain data.

    Raises
    ------
    InputError
        A tag other than the two that are known (it is named), or no YAML at all.
    """
    try:
        loader = _ConfigLoader(path.read_text("utf-8"))
        root = loader.get_single_node()
        _check_tags(root)
        config = None if root is None else loader.construct_document(root)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # whatever YAML stumbles over
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1})"
        problem = one_line(problem.splitlines()[0]) + where
        raise InputError(f"{path} is not a checkpoint's configuration: {problem}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} is not a checkpoint's configuration: no keys")
    return config


def get(config: dict[str, Any], key: str, default: Any = None) -> Any:
    """Value at a dotted key, `default` where it is not there."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return default
        value = value[part]
    return value


def feature_recipe(config: dict[str, Any]) -> FeatureRecipe:
    """Settings of the features in a published configuration."""
    data = config.get("data", {})
    backbones = {}
    for modality in data.get("features_to_use") or ("text", "audio", "video"):
        name = get(data, f"{modality}_feature.model_name") or get(
            data, f"{modality}_feature.image.model_name"
        )
        if not isinstance(name, str):
            raise InputError(f"the checkpoint names no model for data.{modality}_feature")
        backbones[modality] = name
    depths = _shared(data, "layers_to_use", "layers", backbones)
    depths = FeatureRecipe.depths if depths is None else depths
    depths = tuple(depths) if isinstance(depths, (list, tuple)) else (depths,)
    return FeatureRecipe(
        backbones=backbones,
        depths=tuple(float(depth) for depth in depths),
        aggregation=_shared(data, "layer_aggregation", "layer_aggregation", backbones) or "none",
        frequency=float(data.get("frequency", FeatureRecipe.frequency)),
        clip_seconds=float(get(data, "video_feature.clip_duration") or FeatureRecipe.clip_seconds),
    )


def _shared(data: dict[str, Any], key: str, own_key: str, modalities: Iterable[str]) -> Any:
    """A setting of all features, else that which each feature has of its own, if they agree."""
    if data.get(key) is not None:
        return data[key]
    own = [
        get(data, f"{name}_feature.{own_key}", get(data, f"{name}_feature.image.{own_key}"))
        for name in modalities
    ]
    own = [value for value in own if value is not None]
    if any(value != own[0] for value in own):
        raise InputError(f"the features set {own_key} each in its own way; one for all is read")
    return own[0] if own else None


def model_options(config: dict[str, Any]) -> dict[str, Any]:
    """The network's part of a published configuration, checked for what this network lacks."""
    model = config.get("brain_model_config")
    if not isinstance(model, dict):
        raise InputError("the configuration has no brain_model_config")
    for key, allowed in _FIXED.items():
        value = get(model, key, allowed[0])
        if value not in allowed:
            raise InputError(
                f"the checkpoint sets brain_model_config.{key} to {value!r}; "
                f"this network knows {' or '.join(map(repr, allowed))}"
            )
    return model


def build_arguments(
    config: dict[str, Any], given: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Arguments of `network.Encoder` from a published configuration, its build arguments
    (``model_build_args``) and the shapes of its weights.

    Raises
    ------
    InputError
        An option that this network does not have, or arguments that are not there.
    """
    model = model_options(config)
    try:
        feature_dims = {
            str(name): None if dims is None else (1, *map(int, dims))[-2:]
            for name, dims in given["feature_dims"].items()
        }
        n_outputs, n_samples = int(given["n_outputs"]), int(given["n_output_timesteps"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the checkpoint's model_build_args are damaged ({error!r})") from None
    rows = shapes.get("predictor.weights", (1,))[0]
    smoothing = [shape for name, shape in shapes.items() if name.startswith("temporal_smoothing")]
    if model.get("temporal_smoothing") and not smoothing:
        raise InputError("the checkpoint sets temporal_smoothing and holds no weights for it")
    rank = model.get("low_rank_head")
    return {
        "feature_dims": feature_dims,
        "n_outputs": n_outputs,
        "n_output_samples": n_samples,
        "n_subjects": rows,
        "hidden": int(model.get("hidden", 1152)),
        "depth": int(get(model, "encoder.depth", 8)),
        "heads": int(get(model, "encoder.heads", 8)),
        "widening": int(get(model, "encoder.ff_mult", 4)),
        "max_samples": int(model.get("max_seq_len", 1024)),
        "rank": None if not rank else int(rank),
        "layer_aggregation": model.get("layer_aggregation", "cat"),
        "modality_aggregation": model.get("extractor_aggregation", "cat"),
        "projector_sizes": list(get(model, "projector.hidden_sizes") or []),
        "combiner_sizes": (
            None if not model.get("combiner") else list(get(model, "combiner.hidden_sizes") or [])
        ),
        "projector_norm": get(model, "projector.norm_layer", "layer") is not None,
        "combiner_norm": get(model, "combiner.norm_layer", "layer") is not None,
        "projector_bias": bool(get(model, "projector.bias", True)),
        "combiner_bias": bool(get(model, "combiner.bias", True)),
        "smoothing": smoothing[0][-1] if smoothing else None,
        "position_embedding": bool(model.get("time_pos_embedding", True)),
    }


_RENAMED = [
    (r"^time_pos_embed$", "position"),
    (r"^low_rank_head\.", "low_rank."),
    (r"^predictor\.weights$", "head.weight"),
    (r"^predictor\.bias$", "head.bias"),
    (r"^encoder\.rotary_pos_emb\.inv_freq$", "inverse_frequencies"),
    (r"^encoder\.final_norm\.g$", "final_norm.gain"),
    (r"^temporal_smoothing.*$", "smoothing.weight"),
]
_ATTENTION = [
    (r"^0\.0\.g$", "attention_norm.gain"),
    (r"^1\.to_q\.", "attention.query."),
    (r"^1\.to_k\.", "attention.key."),
    (r"^1\.to_v\.", "attention.value."),
    (r"^1\.to_out\.", "attention.out."),
    (r"^2\.residual_scale$", "attention_residual"),
]
_FEEDFORWARD = [
    (r"^0\.0\.g$", "feedforward_norm.gain"),
    (r"^1\.ff\.0\.0\.", "feedforward.0."),
    (r"^1\.ff\.2\.", "feedforward.2."),
    (r"^2\.residual_scale$", "feedforward_residual"),
]


def rename(name: str) -> str:
    """Our name of a published weight (its ``model.`` taken off)."""
    layer = re.match(r"^encoder\.layers\.(\d+)\.(.*)$", name)
    if layer:
        number, rest = int(layer[1]), layer[2]
        for pattern, ours in _FEEDFORWARD if number % 2 else _ATTENTION:
            if re.match(pattern, rest):
                return f"blocks.{number // 2}." + re.sub(pattern, ours, rest)
    for pattern, ours in _RENAMED:
        if re.match(pattern, name):
            return re.sub(pattern, ours, name)
    return name


def rename_mlps(names: list[str]) -> dict[str, str]:
    """Number the layers of projectors and combiners as `network.mlp` does.

    The published maps count dropout layers; here the layers with weights keep their order, and a
    GELU (without weights) stands before each linear map but the first.
    """
    renamed = {}
    by_map: dict[str, set[int]] = {}
    pattern = re.compile(r"^(projectors\.[^.]+|combiner)\.(\d+)\.(weight|bias)$")
    parsed = [(name, match) for name in names if (match := pattern.match(name))]
    for _, match in parsed:
        by_map.setdefault(match[1], set()).add(int(match[2]))
    for name, match in parsed:
        order = sorted(by_map[match[1]])
        place = order.index(int(match[2]))
        if len(order) == 1:  # a single linear map has no number here
            renamed[name] = f"{match[1]}.{match[3]}"
        elif _alternates(order, names, match[1]):
            renamed[name] = f"{match[1]}.{place + place // 2}.{match[3]}"  # Linear, norm, GELU
        else:
            renamed[name] = f"{match[1]}.{2 * place}.{match[3]}"  # Linear, GELU
    return renamed


def _alternates(order: list[int], names: list[str], prefix: str) -> bool:
    """Whether linear maps and norms alternate: a norm follows its linear map at once."""
    return len(order) > 2 and order[1] == order[0] + 1
