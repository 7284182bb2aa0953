"""Recipes of training: what is wrong is said in one line that names what is valid."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tribrain
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError
from tribrain.features.recipe import FeatureRecipe
from tribrain.training.losses import LOSSES
from tribrain.training.run import train_recipe
from tribrain.training.scaling import train_scaling
from tribrain.training.settings import (
    ENCODER,
    OPTIMISERS,
    PARALLEL,
    SCHEDULES,
    DataSettings,
    TrainingRecipe,
    TrainingSettings,
    check_together,
    read_recipe,
    recipe_from_table,
)

RECIPES = sorted(path.stem for path in Path(tribrain.__file__).parent.glob("recipes/*.toml"))
FULL: dict[str, dict[str, Any]] = {
    "data": {
        "studies": ["one", "two/three"],
        "validation": 0.2,
        "test": 0.3,
        "validation_groups": ["a"],
        "test_groups": ["b", "c"],
        "held_out": ["study/01"],
        "hours": 2.5,
        "subjects": 3,
        "seed": 4,
        "standardise": True,
        "mean_of_people": True,
        "length": 60,
        "step": 30,
        "lag": 4.5,
        "fading": 0.5,
        "weights": {"one": 2.0},
    },
    "features": {
        "frequency": 1.0,
        "depths": [0.5, 1.0],
        "aggregation": "none",
        "simple": {"text": ["word_rate"], "audio": ["envelope", "pitch"]},
    },
    "encoder": {
        "hidden": 64,
        "depth": 2,
        "heads": 2,
        "widening": 2,
        "max_samples": 200,
        "rank": 16,
        "dropout": 0.25,
        "layer_aggregation": "mean",
        "modality_aggregation": "sum",
        "projector_norm": False,
        "combiner_norm": False,
        "projector_bias": False,
        "combiner_bias": False,
        "projector_sizes": [32, 16],
        "combiner_sizes": [24],
        "smoothing": 3,
        "position_embedding": False,
    },
    "training": {
        "epochs": 3,
        "batch": 4,
        "accumulate": 2,
        "loss": "pearson",
        "optimiser": "adam",
        "schedule": "cosine",
        "rate": 0.01,
        "decay": 0.1,
        "warm_up": 0.2,
        "clip": 0.5,
        "average": 0.99,
        "modality_dropout": 0.1,
        "subject_dropout": 0.3,
        "expected_subjects": True,
        "time_dropout": 0.05,
        "patience": 2,
        "refit": True,
        "teacher": "path/to/ensemble",
        "teacher_share": 0.25,
        "own_penalty": 200.0,
        "seed": 7,
        "precision": "bf16",
        "compile": True,
        "parallel": "fsdp",
    },
}
"""Every key but those of features, each with a value that is not the default."""


def toml(table: dict[str, Any]) -> str:
    """Numbers, truth values, texts and lists are written alike in JSON and TOML."""
    lines = []
    for section, values in table.items():
        plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
        lines += [f"[{section}]", *(f"{key} = {json.dumps(v)}" for key, v in plain.items())]
        for key, value in values.items():
            if isinstance(value, dict):
                lines.append(f"[{section}.{key}]")
                lines += [f"{name} = {json.dumps(one)}" for name, one in value.items()]
    return "\n".join(lines)


def as_lists(value: Any) -> Any:
    return json.loads(json.dumps(value))


def refused(call, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_the_full_recipe_names_every_setting():
    for section, kind in (("data", DataSettings), ("training", TrainingSettings)):
        assert list(FULL[section]) == [one.name for one in dataclasses.fields(kind)]
        default = dataclasses.asdict(kind())
        for key, value in FULL[section].items():
            assert as_lists(default[key]) != value, key
    assert set(FULL["encoder"]) == set(ENCODER)
    assert list(FULL) == list(get_type_hints(TrainingRecipe))


def test_a_recipe_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(toml(FULL), "utf-8")
    recipe = read_recipe(path)
    table = recipe.as_table()
    for section in ("data", "encoder", "training"):
        assert as_lists(table[section]) == FULL[section]
    for key, value in FULL["features"].items():
        assert as_lists(table["features"][key]) == value
    assert recipe_from_table(table) == recipe
    assert recipe_from_table(as_lists(table)) == recipe
    assert recipe.data.studies == ("one", "two/three")
    assert recipe.encoder["projector_sizes"] == (32, 16)
    assert recipe.features.simple["audio"] == ("envelope", "pitch")


def test_an_empty_recipe_is_all_defaults(tmp_path):
    (tmp_path / "none.toml").write_text("", "utf-8")
    assert read_recipe(tmp_path / "none.toml") == TrainingRecipe()
    assert TrainingRecipe() == TrainingRecipe(
        DataSettings(), FeatureRecipe(), {}, TrainingSettings()
    )


def test_encoder_settings_are_what_the_data_do_not_decide():
    parameters = inspect.signature(Encoder).parameters
    decided = {"feature_dims", "n_outputs", "n_output_samples", "n_subjects"}
    assert set(ENCODER) == set(parameters) - decided
    hints = get_type_hints(Encoder.__init__)
    for name, kind in ENCODER.items():
        plain = getattr(kind, "__origin__", kind)
        told = {"int": int, "float": float, "bool": bool, "str": str, "Sequence": tuple}
        assert plain in {
            told[word] for word in re.findall(r"\w+", str(hints[name])) if word in told
        }


def test_all_encoder_settings_make_an_encoder():
    encoder = recipe_from_table(FULL).encoder
    built = Encoder(
        feature_dims={"audio": (1, 3)}, n_outputs=4, n_output_samples=10, **dict(encoder)
    )
    assert built.smoothing is not None
    assert built.combiner is not None
    assert built.position is None
    zero = recipe_from_table({"encoder": {"rank": 0, "smoothing": 0, "hidden": 64, "heads": 1}})
    built = Encoder(
        feature_dims={"audio": (1, 3)}, n_outputs=4, n_output_samples=10, **dict(zero.encoder)
    )
    assert built.low_rank is None
    assert built.smoothing is None


@pytest.mark.parametrize("name", ["debug", "lite", "simulated", "song", "tribev2", "tribev2-mini"])
def test_recipes_of_the_package(name):
    recipe = read_recipe(name)
    assert recipe_from_table(as_lists(recipe.as_table())) == recipe
    assert recipe.data.studies == ()


# What is wrong


def test_unknown_names_are_told_with_the_known_ones(tmp_path):
    refused(lambda: recipe_from_table({"trainig": {}}), "'trainig'", *FULL)
    for section in ("data", "encoder", "training"):
        refused(lambda s=section: recipe_from_table({s: {"x": 1}}), "'x'", *FULL[section])
    refused(lambda: recipe_from_table({"features": {"x": 1}}), "'x'", "frequency", "simple")
    refused(lambda: read_recipe("litte"), "'litte'", "lite", "song", ".toml")
    refused(lambda: read_recipe(tmp_path / "no.toml"), "no.toml does not exist")
    refused(lambda: read_recipe(tmp_path), str(tmp_path), ".toml")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("training.loss", LOSSES),
        ("training.optimiser", OPTIMISERS),
        ("training.schedule", SCHEDULES),
        ("training.parallel", PARALLEL),
        ("training.precision", ("fp32", "bf16")),
        ("encoder.layer_aggregation", ("cat", "mean")),
        ("encoder.modality_aggregation", ("cat", "sum")),
    ],
)
def test_unknown_choices_are_told_with_the_known_ones(name, known):
    refused(lambda: read_recipe("debug", [f"{name}=other"]), name, "'other'", *known)
    for choice in known:
        read_recipe("debug", [f"{name}={choice}"])


WRONG = {
    int: (1.5, 2.0, True, "3", [1]),
    float: (True, "0.1", [0.1]),
    bool: (1, 0, "true", [True]),
    str: (1, True, ["mse"]),
    tuple: ("one", 1, True, {"a": 1}),
    Mapping: ("one", 1, [1.0]),
}


@pytest.mark.parametrize("section", ["data", "encoder", "training"])
def test_values_of_another_kind_are_refused(section):
    kinds = {"data": DataSettings, "training": TrainingSettings}
    hints = get_type_hints(kinds[section]) if section in kinds else ENCODER
    words = {
        int: "whole number",
        float: "number",
        bool: "true or false",
        str: "text",
        tuple: "list",
        Mapping: "table",
    }
    for name in FULL[section]:
        kind = getattr(hints[name], "__origin__", hints[name])
        for value in WRONG[kind]:
            refused(
                lambda n=name, v=value: recipe_from_table({section: {n: v}}),
                f"{section}.{name}", repr(value), words[kind],
            )  # fmt: skip


def test_lists_hold_one_kind():
    refused(lambda: recipe_from_table({"data": {"studies": ["a", 3]}}), "data.studies", "3", "text")
    refused(lambda: recipe_from_table({"encoder": {"projector_sizes": [8, True]}}), "whole number")
    refused(lambda: recipe_from_table({"encoder": {"combiner_sizes": [8, 0]}}), "1 or more")
    assert recipe_from_table({"encoder": {"combiner_sizes": []}}).encoder == {"combiner_sizes": ()}


def test_weights_of_studies_are_numbers():
    refused(lambda: recipe_from_table({"data": {"weights": {"a": "x"}}}), "data.weights.a", "'x'")
    path, change = "debug", "data.weights.song=2"
    assert read_recipe(path, [change]).data.weights == {"song": 2.0}


def test_whole_numbers_are_numbers():
    recipe = recipe_from_table({"data": {"lag": 4}, "training": {"rate": 1, "decay": 0}})
    assert isinstance(recipe.data.lag, float)
    assert (recipe.data.lag, recipe.training.rate, recipe.training.decay) == (4.0, 1.0, 0.0)
    refused(lambda: recipe_from_table({"training": {"rate": 10**400}}), "training.rate")
    for section in ("data", "training"):
        refused(lambda s=section: recipe_from_table({s: {"seed": 2**64}}), f"{section}.seed")


@pytest.mark.parametrize(
    ("section", "name", "least", "below"),
    [
        *(("data", name, 1, None) for name in ("length", "step")),
        *(("data", name, 0, None) for name in ("seed", "lag", "fading")),
        *(("data", name, 0, 1) for name in ("validation", "test")),
        *(("training", name, 1, None) for name in ("epochs", "batch", "accumulate")),
        *(("training", name, 0, None) for name in ("decay", "clip", "patience", "seed")),
        *(("training", name, 0, 1) for name in ("warm_up", "average", "modality_dropout")),
        *(("training", name, 0, 1) for name in ("subject_dropout", "time_dropout")),
        *(("encoder", name, 1, None) for name in ("hidden", "heads", "widening", "max_samples")),
        *(("encoder", name, 0, None) for name in ("depth", "rank", "smoothing")),
        ("encoder", "dropout", 0, 1),
    ],
)
def test_values_out_of_range_are_refused(section, name, least, below):
    recipe_from_table({section: {name: least}})
    wrong: list[Any] = [least - 1]
    if isinstance(FULL[section][name], float):
        wrong += [-1e-9 + least, math.nan, math.inf, -math.inf]
    if below is not None:
        wrong += [1.0, 7]
        recipe_from_table({section: {name: 0.999}})
    for value in wrong:
        refused(lambda v=value: recipe_from_table({section: {name: v}}), f"{section}.{name}")


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_a_rate_is_more_than_0(value):
    refused(lambda: recipe_from_table({"training": {"rate": value}}), "training.rate", "0 fits")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["data.mean_of_people=true", "training.teacher=x"], "mean_of_people takes no teacher"),
        (
            ["data.mean_of_people=true", "training.expected_subjects=true"],
            "training.expected_subjects=false",
        ),
        (
            ["data.mean_of_people=true", "training.subject_dropout=0.3"],
            "training.subject_dropout=0.0",
        ),
        (["training.teacher=x", "training.expected_subjects=true"], "with a teacher"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(tmp_path, changes, told):
    recipe = read_recipe("debug", changes)  # that of an earlier run can still be read
    refused(lambda: check_together(recipe), told)
    refused(lambda: train_recipe(recipe, tmp_path / "run", device="cpu"), told)
    refused(lambda: train_scaling(recipe, tmp_path / "run", "hours", (1, 2)), told)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_the_package_go_together_with_themselves(name):
    check_together(read_recipe(name))
    check_together(read_recipe("debug", ["data.mean_of_people=true"]))


def test_files_that_are_no_recipe(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[training\nepochs = 3", "utf-8")
    refused(lambda: read_recipe(path), "bad.toml", "line 1")
    path.write_bytes(b"\xff\xfe\x00")
    refused(lambda: read_recipe(path), "bad.toml", "UTF-8")
    path.write_text("training = 3", "utf-8")
    refused(lambda: read_recipe(path), "training", "table")
    refused(lambda: read_recipe(path, ["training.epochs=3"]), "training.epochs=3")
    path.write_text("data = [1]", "utf-8")
    refused(lambda: read_recipe(path), "data", "table")


# --set


def test_changes_are_toml_or_text():
    recipe = read_recipe(
        "debug",
        [
            "training.epochs=9",
            "training.rate = 2",
            "training.loss=pearson",
            'training.optimiser="adam"',
            "training.refit=true",
            "data.studies=['one', \"two\"]",
            "data.studies=[ 'C:\\data\\store' ]",
            " data . lag = 3.5 ",
            "encoder.projector_sizes=[8]",
            "features.simple.audio=['pitch']",
            "features.frequency=4.0",
            "training.epochs=10",
        ],
    )
    assert (recipe.training.epochs, recipe.training.rate, recipe.training.loss) == (
        10,
        2,
        "pearson",
    )
    assert (recipe.training.optimiser, recipe.training.refit) == ("adam", True)
    assert recipe.data.studies == ("C:\\data\\store",)
    assert recipe.data.lag == 3.5
    assert recipe.encoder["projector_sizes"] == (8,)
    assert recipe.encoder["hidden"] == read_recipe("debug").encoder["hidden"]
    assert recipe.features.simple["audio"] == ("pitch",)
    assert recipe.features.simple["video"] == ("contrast",)
    assert recipe.features.frequency == 4.0


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("training.epochs", ["--set", "SECTION.KEY=VALUE"]),
        ("epochs=3", ["--set", "SECTION.KEY=VALUE"]),
        (".epochs=3", ["--set", "SECTION.KEY=VALUE"]),
        ("training.=3", ["--set", "SECTION.KEY=VALUE"]),
        ("=3", ["--set", "SECTION.KEY=VALUE"]),
        ("", ["--set", "SECTION.KEY=VALUE"]),
        ("training.epochs.more=3", ["--set", "training.epochs.more"]),
        ("training.epoch=3", ["'epoch'", "epochs"]),
        ("trainings.epochs=3", ["'trainings'", "training"]),
        ("training.epochs=", ["training.epochs is ''", "a whole number fits"]),
        ("training.epochs=True", ["training.epochs is 'True'"]),
        ("training.refit=yes", ["training.refit is 'yes'", "true or false"]),
        ("training.epochs=3\nbatch=4", ["training.epochs", "whole number"]),
        ("data.studies=store", ["data.studies is 'store'", "list"]),
    ],
)
def test_changes_that_do_not_fit(change, parts):
    refused(lambda: read_recipe("debug", [change]), *parts)


@settings(max_examples=150, deadline=None)
@given(change=st.text(max_size=30) | st.text("training.epochs=[]{}'\"0- \n", max_size=30))
def test_any_text_is_a_change_or_refused(change):
    try:
        told = repr(read_recipe("debug", [change]))
    except InputError as error:
        told = str(error)
    assert "\n" not in told
