"""Maps of what the literature reports, summarised by area, peak where the literature has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import shared
from tribrain.brain.atlases import Atlas, load_atlas
from tribrain.brain.meshes import medial_wall
from tribrain.brain.spaces import mesh_space

SPACE = mesh_space("fsaverage5")
FIRST_WORDS = {
    "faces": "faces face facial",
    "motion": "motion perception visual biological",
    "speech": "speech auditory sounds",
    "reading": "reading words language",
    "sentences": "sentences language comprehension",
}
"""How the words of each topic begin, the most telling first."""


@pytest.fixture(scope="module")
def maps() -> Path:
    return shared("data/maps")


@pytest.fixture(scope="module")
def glasser() -> Atlas:
    return load_atlas(shared("data/atlases") / "glasser_360", SPACE)


@pytest.fixture(scope="module")
def topics(maps: Path) -> dict[str, np.ndarray]:
    """Association z of each topic (20484,)."""
    lines = (maps / "neurosynth_topics.tsv").read_text("utf-8").splitlines()
    words = [line.split("\t")[2] for line in lines]
    with np.load(maps / "neurosynth_topics_fsaverage5.npz") as held:
        z = held["z"].astype(np.float32)
    found = {}
    for topic, start in FIRST_WORDS.items():
        (number,) = (k for k, text in enumerate(words) if text.startswith(start))
        assert lines[number].startswith(f"{number}\t")
        found[topic] = z[number]
    return found


def ranked(atlas: Atlas, values: np.ndarray) -> list[str]:
    """Names of the regions, the largest mean first."""
    return [atlas.names[k] for k in np.argsort(-atlas.summarise(values))]


@pytest.mark.parametrize(
    ("topic", "expected", "among"),
    [
        ("faces", {"FFC_R"}, 1),
        ("motion", {"MT_R", "MST_R", "MT_L", "MST_L"}, 4),
        ("speech", {"PBelt_L", "LBelt_L"}, 2),
        ("speech", {"PBelt_L", "LBelt_L", "A5_L", "PBelt_R", "LBelt_R", "A5_R"}, 10),
        ("reading", {"FFC_L"}, 1),
        ("sentences", {"44_L", "STSdp_L"}, 2),
    ],
)
def test_topics_peak_in_the_expected_areas(glasser, topics, topic, expected, among):
    order = ranked(glasser, topics[topic])
    assert expected <= set(order[:among]), order[:among]


@pytest.mark.parametrize(("topic", "side"), [("faces", "R"), ("reading", "L"), ("sentences", "L")])
def test_topics_lean_to_their_hemisphere(glasser, topics, topic, side):
    means = dict(zip(glasser.names, glasser.summarise(topics[topic]), strict=True))
    area = "44" if topic == "sentences" else "FFC"
    other = "L" if side == "R" else "R"
    assert means[f"{area}_{side}"] > 1.2 * means[f"{area}_{other}"]


def test_the_wall_of_the_faces_map_reaches_no_region(glasser, maps: Path):
    with np.load(maps / "faces_localizer_fsaverage5.npz") as held:
        t = held["t"]
    wall = glasser.labels < 0
    assert t[medial_wall("fsaverage5") & wall].max() > 5  # a peak where there is no cortex
    blank = np.where(wall, np.nan, t)
    np.testing.assert_array_equal(glasser.summarise(t), glasser.summarise(blank))
    assert ranked(glasser, t)[0] == "FFC_R"
    means = dict(zip(glasser.names, glasser.summarise(t), strict=True))
    assert means["FFC_R"] > means["FFC_L"]
