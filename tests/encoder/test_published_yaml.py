"""The published configuration is YAML that runs nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

import makers
from published_makers import small_checkpoint
from tribrain.encoder.checkpoints import load_folder
from tribrain.encoder.published import feature_recipe, get, read_config
from tribrain.errors import InputError
from tribrain.features.recipe import FeatureRecipe

APPLY = "!!python/object/apply"


@pytest.fixture
def written(tmp_path: Path):
    """Write a config.yaml, of text or bytes."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(path: Path) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(InputError) as caught:
        read_config(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.golden
def test_golden_config_gives_the_published_recipe(golden):
    config = read_config(golden / "checkpoint-tiny" / "config.yaml")
    assert feature_recipe(config) == FeatureRecipe(
        backbones={
            "text": "meta-llama/Llama-3.2-3B",
            "audio": "facebook/w2v-bert-2.0",
            "video": "facebook/vjepa2-vitg-fpc64-256",
        },
        depths=(0.5, 0.75, 1.0),
        aggregation="group_mean",
        frequency=2.0,
        clip_seconds=4.0,
    )


@pytest.mark.golden
def test_golden_config_s_python_tags_become_a_dict_and_a_path(golden):
    config = read_config(golden / "checkpoint-tiny" / "config.yaml")
    transforms = get(config, "data.study.transforms")
    assert type(transforms) is dict
    assert list(transforms)[:3] == ["extractaudio", "extractwords", "addtext"]
    assert transforms["extractaudio"]["name"] == "ExtractAudioFromVideo"
    assert get(config, "data.study.transforms.chunkvideos.infra.folder") == (
        "/checkpoint/refout/cache/tribe_release"
    )


@pytest.mark.golden
def test_golden_config_of_the_end_to_end_checkpoint_parses(golden):
    config = read_config(golden / "end-to-end" / "checkpoint" / "config.yaml")
    assert get(config, "data.neuro.projection.mesh") == "fsaverage3"
    assert set(feature_recipe(config).backbones) == {"text", "audio", "video"}


@pytest.mark.golden
def test_golden_checkpoint_gives_the_build_arguments_of_its_weights(golden):
    card, encoder = load_folder(golden / "checkpoint-tiny")
    assert (card.window, card.lag, card.space) == (20.0, 5.0, "fsaverage5")
    assert card.subjects == {"Study/sub-01": 0, "Study/sub-02": 1, "Study/sub-03": 2}
    assert (encoder.n_subjects, encoder.n_outputs, encoder.n_output_samples) == (4, 1284, 20)
    assert len(encoder.blocks) == 2
    assert encoder.combiner is None
    assert encoder.smoothing is None


def test_an_ordered_dict_keeps_its_order_and_values(written):
    text = f"a: {APPLY}:collections.OrderedDict\n- - [z, 1]\n  - [b, {{x: [2]}}]\n"
    config = read_config(written(text))
    assert config == {"a": {"z": 1, "b": {"x": [2]}}}
    assert list(config["a"]) == ["z", "b"]


def test_an_empty_ordered_dict_is_a_dict(written):
    assert read_config(written(f"a: {APPLY}:collections.OrderedDict []")) == {"a": {}}


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ("[/, data, cache]", "/data/cache"),
        ("[data, cache]", "data/cache"),
        ("[/]", "/"),
        ("[/, '2024', 1]", "/2024/1"),
    ],
)
def test_a_path_becomes_its_text(written, parts, path):
    config = read_config(written(f"a: {APPLY}:pathlib.PosixPath {parts}"))
    assert config == {"a": path}
    assert type(config["a"]) is str


HOSTILE = [
    (f"{APPLY}:os.system ['touch {{trap}}']", "python/object/apply:os.system"),
    (f"{APPLY}:subprocess.check_output [[touch, {{trap}}]]", "apply:subprocess.check_output"),
    (f'{APPLY}:builtins.eval [\'open("{{trap}}", "w")\']', "apply:builtins.eval"),
    (f"{APPLY}:pathlib.Path [{{trap}}]", "apply:pathlib.Path"),
    (f"{APPLY}:collections.OrderedDictionary []", "apply:collections.OrderedDictionary"),
    ("!!python/object/new:os.system ['touch {trap}']", "python/object/new:os.system"),
    ("!!python/object/new:collections.OrderedDict []", "python/object/new:collections.OrderedDict"),
    ("!!python/object:collections.OrderedDict {{}}", "python/object:collections.OrderedDict"),
    ("!!python/name:os.system ''", "python/name:os.system"),
    ("!!python/module:os ''", "python/module:os"),
    ("!!python/tuple [1, 2]", "python/tuple"),
    ("!!python/str a", "python/str"),
    ("!!python/none ''", "python/none"),
    ("!foo a", "!foo"),
    ("!<tag:example.org,2000:bar> a", "tag:example.org,2000:bar"),
]
PLACES = {
    "value": "a: {node}",
    "whole file": "{node}",
    "nested in lists": "a:\n- 1\n- [2, [3, {node}]]",
    "nested in a mapping": "a: {{b: {{c: {node}}}}}",
    "key": "? {node}\n: 1",
    "nested key": "a:\n  b:\n    ? {node}\n    : 1",
    "in an ordered dict": "a: " + APPLY + ":collections.OrderedDict [[[k, {node}]]]",
    "key of an ordered dict": "a: " + APPLY + ":collections.OrderedDict [[[{node}, 1]]]",
    "in a path": "a: " + APPLY + ":pathlib.PosixPath [/, {node}]",
    "behind an alias": "a: &x [{node}]\nb: *x",
    "in a set": "a: !!set {{? {node}}}",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("node", "tag"), HOSTILE, ids=[tag for _, tag in HOSTILE])
def test_a_hostile_tag_is_refused_by_name_and_nothing_runs(written, tmp_path, node, tag, place):
    trap = tmp_path / "trap"
    node = node.format(trap=trap)
    message = refusal(written(PLACES[place].format(node=node)))
    assert tag in message
    assert not trap.exists()


UNSEEN = {
    "merged": "a: {{<<: {node}}}",
    "in an ordered map": "a: !!omap [{node}]",
    "in pairs": "a: !!pairs [{node}]",
}


@pytest.mark.parametrize("place", UNSEEN.values(), ids=UNSEEN)
@pytest.mark.parametrize(("node", "tag"), HOSTILE, ids=[tag for _, tag in HOSTILE])
def test_nothing_runs_where_yaml_reads_a_node_without_its_tag(written, tmp_path, node, tag, place):
    trap = tmp_path / "trap"
    with contextlib.suppress(InputError):
        read_config(written(place.format(node=node.format(trap=trap))))
    assert not trap.exists()


@pytest.mark.parametrize("place", UNSEEN.values(), ids=UNSEEN)
def test_a_tag_that_yaml_does_not_look_at_is_refused_by_name_too(written, place):
    assert "!foo" in refusal(written(place.format(node="!foo {b: 1}")))


def test_a_prefix_that_hides_the_tag_is_seen_through(written, tmp_path):
    trap = tmp_path / "trap"
    text = f"%TAG !p! tag:yaml.org,2002:python/object/apply:os.\n---\na: !p!system ['touch {trap}']"
    assert "apply:os.system" in refusal(written(text))
    assert not trap.exists()


def test_a_config_that_would_run_code_stops_the_whole_checkpoint(tmp_path):
    makers.make_published_checkpoint(tmp_path / "model", *small_checkpoint())
    trap = tmp_path / "trap"
    path = tmp_path / "model" / "config.yaml"
    path.write_text(path.read_text() + f"\nextra: {APPLY}:os.system ['touch {trap}']\n")
    with pytest.raises(InputError, match=r"config\.yaml.*os\.system"):
        load_folder(tmp_path / "model")
    assert not trap.exists()


def test_yaml_elsewhere_in_the_program_learns_no_tags(written):
    import yaml

    read_config(written("a: 1"))
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(f"a: {APPLY}:pathlib.PosixPath [/]")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"just a line",
        b"- a\n- b",
        b"5",
        b"null",
        b"a: [1, 2",
        b"a: {b: 1",
        b"a: 'b",
        b"a: b: c",
        b"\ta: 1",
        b"a: *nowhere",
        b"a: &x 1\na: &x [*y]",
        b"? [1]\n: 2",
        b"<<: 1",
        b"a: 2001-99-99",
        b"a: !!binary x",
        b"a: 1\n---\nb: 2",
        b"\x00\x01\x02",
        b"\xff\xfe\xfa\x00",
        b"a: \x07",
        b"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        f"a: {APPLY}:collections.OrderedDict 5".encode(),
        f"a: {APPLY}:collections.OrderedDict [5]".encode(),
        f"a: {APPLY}:collections.OrderedDict [[[1]]]".encode(),
        f"a: {APPLY}:collections.OrderedDict {{args: []}}".encode(),
        f"a: {APPLY}:pathlib.PosixPath nothing".encode(),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(written, content):
    assert "is not a checkpoint's configuration" in refusal(written(content))


@pytest.mark.parametrize(
    "content",
    [
        b"a: !!timestamp noon",  # AttributeError
        b"a: !!bool perhaps",  # KeyError
        b'a: !!int ""',  # IndexError
        b'a: !!float ""',  # IndexError
        b"[" * 5000,  # RecursionError
    ],
)
def test_a_value_that_yaml_itself_stumbles_over_is_refused_in_one_line(written, content):
    assert "is not a checkpoint's configuration" in refusal(written(content))


@pytest.mark.parametrize("tag", ["!%0Aall-is-well", "!%0D", "!%1B%5B31m"])
def test_a_tag_with_control_characters_is_shown_without_them(written, tag):
    assert refusal(written(f"a: {tag} x")).isprintable()
