"""Every family: its layers, its preprocessing and its pooling against `transformers` itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

import makers
import tribrain
from family_makers import MODELS, UNLISTED, make_model
from tribrain.errors import InputError
from tribrain.features.audio import SoundReader
from tribrain.features.backbones import (
    Backbone,
    find_backbone,
    load_backbone,
    load_feature_extractor,
    load_picture_settings,
    pick_precision,
)
from tribrain.features.extract import extract_features, find_backbones
from tribrain.features.families import FAMILIES, Family, family_of
from tribrain.features.frames import FramePreparation
from tribrain.features.pieces import Extractors
from tribrain.features.recipe import FeatureRecipe

RECIPES = [FeatureRecipe(), FeatureRecipe(depths=(2 / 3,)), FeatureRecipe(depths=(0.0,))]
# A row of the table without a model here fails, for want of its settings.
NAMES = [*FAMILIES, *(name for name in MODELS if name not in FAMILIES)]
SOUNDS = [
    name
    for name, (kind, _) in MODELS.items()
    if kind in FAMILIES and FAMILIES[kind].modality == "audio"
]
PICTURES = [name for name, family in FAMILIES.items() if family.form == "picture"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a model of a name when it is first asked for; gives the folder of all of them."""
    folder = tmp_path_factory.mktemp("families")

    def folder_with(name: str) -> Path:
        if not (folder / name).is_dir():
            make_model(folder, name)
        return folder

    return folder_with


def load(folder: Path, name: str, recipe: FeatureRecipe = RECIPES[0], **settings: Any) -> Backbone:
    found = find_backbone(f"someone/{name}", folder)
    family = family_of(AutoConfig.from_pretrained(found.path))
    return load_backbone(found, family.modality, recipe, **settings)


def stock(folder: Path, name: str) -> Any:
    """The model as `transformers` loads it, or the part that is used."""
    model = AutoModel.from_pretrained(folder / name).eval()
    family = FAMILIES.get(MODELS[name][0])
    return model.get_submodule(family.part) if family and family.part else model


@torch.inference_mode()
def stock_states(folder: Path, name: str, inputs: dict[str, Any]) -> torch.Tensor:
    """Hidden states (states, batch, tokens, dim) that the model itself returns."""
    return torch.stack(stock(folder, name)(**inputs, output_hidden_states=True).hidden_states)


def group_means(states: torch.Tensor, recipe: FeatureRecipe) -> torch.Tensor:
    """Layers (layers, ...) of states (states, ...)."""
    return torch.stack([states[group].mean(0) for group in recipe.layer_groups(len(states))])


def inputs_of(kind: str, family: Family) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    if family.modality == "text":
        return {"input_ids": torch.randint(4, 380, (2, 40), generator=generator)}
    if family.form == "spectrum":
        return {"input_features": draw(2, 60, 160)}
    if family.form == "spectrum_30s":
        return {"input_features": draw(2, 80, 3000)}
    if family.form == "waveform":
        return {"input_values": draw(2, 8000)}
    if kind == "vjepa2":
        return {"pixel_values_videos": draw(2, 8, 3, 32, 32), "skip_predictor": True}
    return {"pixel_values": draw(2, *([8] if family.form == "clip" else []), 3, 32, 32)}


def noise(seconds: float, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    swell = np.interp(np.arange(n), np.linspace(0, n, 50), rng.uniform(0, 0.4, 50))
    return (rng.normal(size=n) * swell).astype(np.float32)


def film_of(path: Path, seconds: float, rate: int = 8, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (round(seconds * rate), 6, 8, 3)).astype(np.uint8)
    frames = coarse.repeat(7, axis=1).repeat(7, axis=2)[:, :40, :54]
    return makers.write_film(path, frames, rate=rate)


def extract(stimulus: Any, folder: Path, modality: str, name: str, **settings: Any) -> np.ndarray:
    recipe = FeatureRecipe(backbones={modality: name}, **settings)
    folders = find_backbones(recipe, [modality], folder)
    features = extract_features(stimulus, Extractors(recipe, folders), [modality], window=100.0)
    return features[modality]


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_means_of_the_states_that_the_model_returns(models, name):
    folder = models(name)
    config = AutoConfig.from_pretrained(folder / name)
    inputs = inputs_of(config.model_type, family_of(config))
    states = stock_states(folder, name, inputs)
    steps = (states[1:] - states[:-1]).abs().amax(dim=(1, 2, 3))
    assert len(states) == 5
    assert steps.min() > 0.1  # so that one state cannot pass for another
    for recipe in RECIPES:
        backbone = load(folder, name, recipe)
        layers = torch.stack(backbone.layers(inputs, lambda hidden: hidden.mean(dim=1)))
        expected = group_means(states.mean(dim=2), recipe)
        torch.testing.assert_close(layers, expected, atol=1e-5, rtol=1e-5)
        assert backbone.width == states.shape[-1]


def test_a_model_that_projects_its_last_state_keeps_the_width_of_its_blocks(tmp_path):
    """As the smallest opt does; what `transformers` lists last there is of another width."""
    make_model(tmp_path, "opt-350m", word_embed_proj_dim=16)
    inputs = inputs_of("opt", FAMILIES["opt"])
    recipe = FeatureRecipe(depths=(0.75, 1.0), aggregation="none")
    first, last = load(tmp_path, "opt-350m", recipe).layers(inputs, lambda hidden: hidden)
    with torch.inference_mode():
        model = stock(tmp_path, "opt-350m")
        output = model(**inputs, output_hidden_states=True)
        projected = model.decoder.project_out(last)
    torch.testing.assert_close(first, output.hidden_states[3], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(projected, output.last_hidden_state, atol=1e-4, rtol=1e-4)


def test_what_the_table_does_not_name_is_told_from_the_lists_of_language_models():
    forms = {name: family_of(AutoConfig.for_model(MODELS[name][0])).form for name in UNLISTED}
    assert forms == {"albert": "bidirectional", "bloom": "causal", "falcon": "causal"}
    assert family_of(AutoConfig.for_model("resnet")) is None


@pytest.mark.parametrize("kind", ["bart", "gemma3"])
def test_models_that_are_no_plain_language_models_are_refused(tmp_path, kind):
    """One that encodes and decodes, and one whose language model is a part of it."""
    AutoConfig.for_model(kind).save_pretrained(tmp_path / kind)
    with pytest.raises(InputError, match=f"of type '{kind}'; text takes: llama, ") as error:
        load_backbone(find_backbone(kind, tmp_path), "text", FeatureRecipe())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "modality"), [("dinov2", "audio"), ("whisper", "video")])
def test_a_model_of_another_modality_names_those_that_fit(models, name, modality):
    folder = find_backbone(name, models(name))
    fitting = next(kind for kind, family in FAMILIES.items() if family.modality == modality)
    with pytest.raises(InputError, match=f"{name}'; {modality} takes: .*{fitting}"):
        load_backbone(folder, modality, FeatureRecipe())


@pytest.mark.parametrize(
    ("name", "key"),
    [("clip", "vision_model.encoder.layers.1"), ("whisper", "encoder.layers.1"), ("gpt2", "h.1")],
)
def test_missing_weights_of_the_part_in_use_are_told(models, tmp_path, name, key):
    from safetensors.torch import load_file, save_file

    shutil.copytree(models(name) / name, tmp_path / name)
    file = tmp_path / name / "model.safetensors"
    held = load_file(file)
    kept = {one: value for one, value in held.items() if not one.startswith(f"{key}.")}
    n_missing = len(held) - len(kept)
    assert n_missing > 5
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"{n_missing} weights are missing") as error:
        load(tmp_path, name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("clip", "text_model"), ("siglip", "text_model"), ("whisper", "decoder"), ("bert", "pooler")],
)
def test_weights_of_unused_parts_need_not_be_there(models, tmp_path, name, prefix):
    from safetensors.torch import load_file, save_file

    shutil.copytree(models(name) / name, tmp_path / name)
    file = tmp_path / name / "model.safetensors"
    held = load_file(file)
    kept = {one: value for one, value in held.items() if not one.startswith(prefix)}
    assert len(kept) < len(held)
    save_file(kept, file, metadata={"format": "pt"})
    assert len(load(tmp_path, name).blocks) == 4


# Sound


@torch.inference_mode()
def by_hand(folder: Path, name: str, sound: np.ndarray, n: int) -> np.ndarray:
    """Series of 16 kHz sound by the family's own extractor and model: (layers, dim, n)."""
    extractor = AutoFeatureExtractor.from_pretrained(folder / name)
    wave = (sound - sound.mean()) / (1e-8 + sound.std(ddof=1))
    model, states = stock(folder, name), []
    step = 30 * 16_000 if name == "whisper" else len(wave)
    for first in range(0, len(wave), step):
        inputs = extractor(wave[first : first + step], sampling_rate=16_000, return_tensors="pt")
        states.append(torch.stack(model(**inputs, output_hidden_states=True).hidden_states)[:, 0])
    joined = torch.cat(states, dim=1)
    if name == "whisper":  # 50 states a second; what follows belongs to the padding
        joined = joined[:, : 50 * len(wave) // 16_000]
    layers = group_means(joined, FeatureRecipe())
    return torch.nn.functional.interpolate(layers.mT, n).numpy()


def test_every_sound_model_is_compared_below():
    assert {MODELS[name][0] for name in SOUNDS} == {
        kind for kind, family in FAMILIES.items() if family.modality == "audio"
    }


@pytest.mark.parametrize(
    ("name", "seconds"), [*((name, 3.3) for name in SOUNDS), ("whisper", 70.0)]
)
def test_sound_is_prepared_as_by_the_models_own_extractor(models, name, seconds):
    folder = models(name)
    backbone = load(folder, name)
    reader = SoundReader(backbone, load_feature_extractor(backbone.folder))
    sound, n = noise(seconds), round(2 * seconds)
    (ours,) = reader.series([(sound, n)], 16_000)
    expected = by_hand(folder, name, sound, n)
    assert ours.shape == (2, 32, n)
    assert np.abs(np.diff(expected, axis=-1)).max() > 0.1
    np.testing.assert_allclose(ours, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SOUNDS)
def test_chunks_that_run_together_equal_chunks_alone(models, name):
    folder = models(name)
    backbone = load(folder, name)
    reader = SoundReader(backbone, load_feature_extractor(backbone.folder))
    chunks = [(noise(1.5, seed), 3) for seed in range(2)] + [(noise(1.0, 3), 2), (noise(0.1), 0)]
    alone = [reader.series([chunk], 16_000)[0] for chunk in chunks]
    reader._batches.size = 2
    together = reader.series(chunks, 16_000)
    assert [one.shape[-1] for one in together] == [3, 3, 2, 0]
    for ours, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["wavlm", "whisper", "wav2vec2-bert"])
def test_sound_end_to_end(models, tmp_path, name):
    samples = (noise(4.0) * 32767).astype(np.int16).astype(np.float32) / 32768
    file = makers.write_sound(tmp_path / "sound.wav", samples * 32768 / 32767, 16_000)
    with pytest.warns(tribrain.InputWarning, match="text is left out"):
        stimulus = tribrain.Stimulus.from_audio(file)
    folder = models(name)
    series = extract(stimulus, folder, "audio", name)
    np.testing.assert_allclose(
        series[..., :8], by_hand(folder, name, samples, 8), atol=1e-3, rtol=1e-3
    )
    assert not series[..., 8:].any()


# Film and pictures


@torch.inference_mode()
def vectors_by_hand(
    folder: Path, name: str, film: Path, plan: list[list[int]], pooling: str = "mean"
) -> np.ndarray:
    """Vectors (layers, dim, clips) of clips given by the numbers of their frames."""
    import av

    with av.open(str(film)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    preparation = FramePreparation.of(load_picture_settings(find_backbone(name, folder)), 32)
    model, series = stock(folder, name), []
    for numbers in plan:
        frames = [decoded[number] for number in numbers]
        pixels = preparation.normalise(preparation.resize(frames, torch.device("cpu")))
        if name == "vjepa2":
            inputs = {"pixel_values_videos": pixels[None], "skip_predictor": True}
        else:
            inputs = {"pixel_values": pixels[None] if name == "videomae" else pixels}
        states = torch.stack(model(**inputs, output_hidden_states=True).hidden_states)[:, 0]
        pooled = states[:, 0] if pooling == "first" else states.mean(1)
        series.append(group_means(pooled, FeatureRecipe()))
    return torch.stack(series, dim=-1).numpy()


@pytest.mark.parametrize("name", PICTURES)
def test_picture_models_read_the_frame_in_the_middle_of_each_sample(models, tmp_path, name):
    film = film_of(tmp_path / "film.mp4", 5.0)
    folder = models(name)
    series = extract(tribrain.Stimulus.from_video(film), folder, "video", name)
    middles = [[int(8 * (0.25 + 0.5 * sample))] for sample in range(10)]
    assert middles[:3] == [[2], [6], [10]]
    expected = vectors_by_hand(folder, name, film, middles)
    assert np.abs(np.diff(expected, axis=-1)).max() > 0.01
    np.testing.assert_allclose(series[..., :10], expected, atol=1e-4)
    assert not series[..., 10:].any()


@pytest.mark.parametrize("name", ["vjepa2", "videomae"])
def test_clip_models_read_the_recipes_clip(models, tmp_path, name):
    film = film_of(tmp_path / "film.mp4", 5.0)
    folder = models(name)
    series = extract(tribrain.Stimulus.from_video(film), folder, "video", name, clip_seconds=2.0)
    plan = []
    for sample in range(1, 11):
        times = [sample / 2 - (7 - frame) * 2.0 / 8 for frame in range(8)]
        plan.append([min(39, int(8 * max(0.0, time) + 1e-5)) for time in times])
    assert plan[0] == [0, 0, 0, 0, 0, 0, 2, 4]
    expected = vectors_by_hand(folder, name, film, plan)
    np.testing.assert_allclose(series[..., :10], expected, atol=1e-4)
    assert not series[..., 10:].any()


@pytest.mark.parametrize("name", [name for name in PICTURES if "siglip" not in name])
def test_the_class_token_stands_for_the_picture(models, tmp_path, name):
    film = film_of(tmp_path / "film.mp4", 1.0)
    folder = models(name)
    stimulus = tribrain.Stimulus.from_video(film)
    series = extract(stimulus, folder, "video", name, pooling="first")[..., :2]
    expected = vectors_by_hand(folder, name, film, [[2], [6]], "first")
    np.testing.assert_allclose(series, expected, atol=1e-4)
    assert np.abs(expected - vectors_by_hand(folder, name, film, [[2], [6]])).max() > 0.05


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("siglip", "first"), ("vjepa2", "first"), ("videomae", "first"), ("dinov2", "last")],
)
def test_pooling_that_does_not_fit_is_refused(models, name, pooling):
    recipe = FeatureRecipe(pooling=pooling)
    fitting = "mean, first" if name == "dinov2" else "mean"
    with pytest.raises(InputError, match=f"'{pooling}' does not fit .*what fits: {fitting}$"):
        load(models(name), name, recipe)


# Precision


@pytest.mark.parametrize("name", ["gpt2", "bert", "wav2vec2-bert", "whisper", "vjepa2", "dinov2"])
def test_bfloat16_tells_much_the_same(models, tmp_path, name):
    make_model(tmp_path, name, initializer_range=0.05, init_std=0.05)
    config = AutoConfig.from_pretrained(tmp_path / name)
    inputs = inputs_of(config.model_type, family_of(config))
    layers = {}
    for precision in ("fp32", "bf16"):
        backbone = load(tmp_path, name, precision=precision)
        assert backbone.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        layers[precision] = torch.stack(backbone.layers(inputs, lambda hidden: hidden.float()))
    assert layers["bf16"].dtype == torch.float32
    assert not torch.equal(layers["fp32"], layers["bf16"])
    both = torch.stack([layers["fp32"].flatten(), layers["bf16"].flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.999


def test_half_precision_that_overflows_names_what_fits(tmp_path):
    make_model(tmp_path, "gpt2", scale=40.0)
    inputs = {"input_ids": torch.arange(4, 24)[None]}
    full = load(tmp_path, "gpt2").layers(inputs, lambda hidden: hidden.mean(dim=1).float())
    assert all(layer.isfinite().all() for layer in full)
    half = load(tmp_path, "gpt2", precision="fp16")
    with pytest.raises(InputError, match="--precision bf16 or fp32 fits"):
        half.layers(inputs, lambda hidden: hidden.mean(dim=1).float())


@pytest.mark.parametrize(
    ("device", "capability", "expected"),
    [
        ("cpu", None, "fp32"),
        ("mps", None, "fp16"),
        ("cuda", (9, 0), "bf16"),
        ("cuda:1", (8, 0), "bf16"),
        ("cuda", (7, 5), "fp16"),
    ],
)
def test_the_precision_that_a_device_is_good_at(monkeypatch, device, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick_precision("auto", device) == expected
    for precision in ("fp32", "bf16", "fp16"):
        assert pick_precision(precision, device) == precision


def test_an_unknown_precision_names_the_known_ones():
    with pytest.raises(InputError, match="'fp8' is unknown; known: auto, fp32, bf16, fp16"):
        pick_precision("fp8", "cpu")


@pytest.mark.slow
def test_compiled_blocks_give_the_same_numbers(models):
    folder = models("bert")
    inputs = inputs_of("bert", FAMILIES["bert"])
    recipe = FeatureRecipe(depths=(0.25, 0.5))
    plain, compiled = (
        load(folder, "bert", recipe, compile_blocks=flag).layers(inputs, lambda h: h.mean(dim=1))
        for flag in (False, True)
    )
    for ours, expected in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_settings_of_pictures_that_are_broken_are_one_line(models, tmp_path):
    shutil.copytree(models("dinov2") / "dinov2", tmp_path / "dinov2")
    file = tmp_path / "dinov2" / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({"image_processor": settings}))
    assert load_picture_settings(find_backbone("dinov2", tmp_path)) == settings
    file.write_text("{")
    with pytest.raises(InputError, match=r"dinov2 in .* cannot be loaded") as error:
        load_picture_settings(find_backbone("dinov2", tmp_path))
    assert "\n" not in str(error.value)
