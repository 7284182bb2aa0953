import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tribrain.brain.painting import grid
from tribrain.brain.spaces import TEMPLATES
from tribrain.brain.templates import KNOWN_GRIDS, volume_template
from tribrain.errors import InputError, InputWarning

FSL = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
COARSE = np.array([[-8.0, 0, 0, 90], [0, 8, 0, -126], [0, 0, 8, -72], [0, 0, 0, 1]])
SHAPE = (23, 27, 23)  # of COARSE


def _image(shape=(91, 109, 91), affine=FSL, code: int = 2) -> nib.Nifti1Image:
    image = nib.Nifti1Image(np.zeros(shape, np.uint8), affine)
    image.set_sform(affine, code)
    image.set_qform(affine, 0)
    return image


@pytest.mark.parametrize("turned", [False, True])
def test_every_known_grid_shows_its_template_whichever_way_it_runs(turned: bool):
    for (*shape, edge, x, y, z), template in KNOWN_GRIDS.items():
        affine = np.diag([edge, edge, edge, 1.0])
        affine[:3, 3] = x, y, z
        image = nib.Nifti1Image(np.broadcast_to(np.uint8(0), shape), affine)
        if turned:
            image = image.as_reoriented([[2, -1], [0, -1], [1, 1]])
        assert volume_template(image, "bold.nii") == template


def test_grids_that_this_package_writes_are_known():
    for template in ("MNI152NLin6Asym", "MNI152NLin2009cAsym"):
        for edge in (1, 2):
            shape, affine = grid(template, edge)
            image = nib.Nifti1Image(np.broadcast_to(np.uint8(0), shape), affine)
            assert volume_template(image) == template


def test_nilearns_template_is_known():
    from nilearn.datasets import load_mni152_template

    assert volume_template(load_mni152_template(resolution=2)) == "MNI152NLin2009aSym"


@pytest.mark.parametrize("template", TEMPLATES)
def test_name_sidecar_and_user_each_show_the_template(tmp_path: Path, template: str):
    image = _image(SHAPE, COARSE, 1)
    assert volume_template(image, f"sub-1_space-{template}_res-2_bold.nii.gz") == template
    for told in (template, template.lower()):
        assert volume_template(image, space=told) == template
        with pytest.warns(InputWarning, match="its header says scanner space .code 1."):
            assert volume_template(image, "bold.nii.gz", space=told) == template
    url = f"https://templateflow.s3.amazonaws.com/tpl-{template}/tpl-{template}_res-02_T1w.nii.gz"
    for reference in (url, {"VolumeReference": url, "CIFTI_STRUCTURE_CORTEX_LEFT": "fsLR"}):
        (tmp_path / "bold.json").write_text(json.dumps({"SpatialReference": reference}))
        assert volume_template(image, tmp_path / "bold.nii.gz") == template


def test_code_4_alone_says_the_family_and_warns():
    with pytest.warns(InputWarning, match="which template of that family is not said"):
        assert volume_template(_image(SHAPE, COARSE, 4), "bold.nii") == "MNI152NLin6Asym"
    # A grid or the user tells which, and nothing has to be said.
    assert volume_template(_image(code=4), "bold.nii") == "MNI152NLin6Asym"
    told = volume_template(_image(SHAPE, COARSE, 4), "bold.nii", space="MNI152NLin2009cAsym")
    assert told == "MNI152NLin2009cAsym"


def test_name_wins_over_grid_within_the_family():
    name = "sub-1_space-MNI152NLin2009cAsym_bold.nii"
    assert volume_template(_image(), name) == "MNI152NLin2009cAsym"


def test_user_wins_over_the_header():
    image = _image(code=3)
    assert volume_template(image, "a.nii", space="MNI152NLin6Asym") == "MNI152NLin6Asym"


@pytest.mark.parametrize(
    ("image", "name", "space", "told"),
    [
        (_image(SHAPE, COARSE, 1), "bold.nii", None, "does not show .* code 1 .scanner."),
        (_image(SHAPE, COARSE, 2), "bold.nii", None, "does not show .* code 2 .aligned."),
        (_image(SHAPE, COARSE, 3), "bold.nii", None, "does not show .* code 3 .Talairach."),
        (_image(), "sub-1_space-T1w_bold.nii", None, "in 'T1w' by its name, which is none"),
        (_image(code=3), "bold.nii", None, "MNI152NLin6Asym by its grid and in Talairach"),
        (
            _image(code=3),
            "space-MNI152NLin6Asym_bold.nii",
            None,
            "by what is said of it and in Talairach",
        ),
        (_image(), "space-T1w_bold.nii", "MNI305", "'T1w' by its name, not in MNI305"),
        (_image(), "space-MNI305_bold.nii", "MNIColin27", "'MNI305' by its name, not in MNIColin"),
        (_image(), "bold.nii", "T1w", "space='T1w' is unknown"),
    ],
)
def test_what_does_not_show_or_contradicts_names_the_templates(image, name, space, told):
    with pytest.raises(InputError, match=told) as error:
        volume_template(image, name, space=space)
    assert all(template in str(error.value) for template in TEMPLATES)
    assert "space=" in str(error.value)
    assert "\n" not in str(error.value)


def test_sidecar_that_contradicts_the_name(tmp_path: Path):
    (tmp_path / "space-MNI305_bold.json").write_text('{"Space": "MNI152NLin6Asym"}')
    with pytest.raises(InputError, match="'MNI152NLin6Asym' by the JSON file beside it, not in"):
        volume_template(_image(), tmp_path / "space-MNI305_bold.nii.gz")
    (tmp_path / "space-MNI305_bold.json").write_text('{"SpatialReference": "some/file.nii"}')
    assert volume_template(_image(), tmp_path / "space-MNI305_bold.nii.gz") == "MNI305"
    (tmp_path / "space-MNI305_bold.json").write_text('{"SpatialReference": "orig"}')
    with pytest.raises(InputError, match="'orig' by the JSON file beside it, not in MNI305"):
        volume_template(_image(), tmp_path / "space-MNI305_bold.nii.gz")
    (tmp_path / "space-MNI305_bold.json").write_text('{"Space": "fsaverage5"}')  # painted
    assert volume_template(_image(), tmp_path / "space-MNI305_bold.nii.gz") == "MNI305"
    (tmp_path / "bold.json").write_text('{"SpatialReference": "orig"}')
    with pytest.raises(InputError, match="'orig' by the JSON file beside it, which is none"):
        volume_template(_image(), tmp_path / "bold.nii")
    (tmp_path / "bold.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        volume_template(_image(), tmp_path / "bold.nii")


def _moved(**changes: float) -> np.ndarray:
    affine = FSL.copy()
    for place, value in changes.items():
        affine[int(place[1]), int(place[2])] = value
    return affine


@pytest.mark.parametrize(
    ("affine", "told"),
    [
        (np.zeros((4, 4)), "damaged"),
        (_moved(a00=0.0), "voxels of 0 x 2 x 2 mm"),
        (_moved(a00=np.nan), "damaged"),
        (_moved(a00=-200.0), "voxels of 200 x"),
        (np.diag([2.0, 2, 2, 1]), "away from the brain.* x -1 to 181"),
        (_moved(a23=5000.0), "away from the brain"),
        (_moved(a01=-2.0, a11=0.01), "affine has voxels"),
    ],
)
def test_wrong_affines(affine: np.ndarray, told: str):
    image = nib.Nifti1Image(np.zeros((91, 109, 91), np.uint8), FSL)
    image._affine = affine  # nibabel itself refuses to set some of these
    with pytest.raises(InputError, match=told):
        volume_template(image, "space-MNI152NLin6Asym_bold.nii")


@pytest.mark.parametrize("space", [None, "MNI152NLin6Asym"])
def test_no_affine_is_refused_whatever_the_user_says(space):
    image = _image(code=0)
    with pytest.raises(InputError, match="has no affine: sform and qform codes are 0"):
        volume_template(image, "space-MNI152NLin6Asym_mask.nii", space=space)
    image.set_qform(FSL, 1)
    assert volume_template(image, space=space) == "MNI152NLin6Asym"
    with pytest.raises(InputError, match="has no affine: it is of the Analyze format"):
        volume_template(nib.AnalyzeImage(np.zeros((91, 109, 91), np.int16), FSL), space=space)


def test_other_images_and_messages():
    flat = nib.Nifti1Image(np.zeros((4, 4), np.uint8), FSL)
    with pytest.raises(InputError, match="no volume with an affine"):
        volume_template(flat)
    other = nib.MGHImage(np.zeros((91, 109, 91), np.uint8), FSL)
    assert volume_template(other) == "MNI152NLin6Asym"
    with pytest.raises(InputError, match="say it by --space, one of MNI152NLin6Asym"):
        volume_template(_image(SHAPE, COARSE, 1), option="--space")


def test_slab_within_the_brain_is_not_away_from_it():
    affine = _moved(a23=10.0)
    image = _image((91, 109, 8), affine)
    name = "space-MNI152NLin6Asym_bold.nii"
    assert volume_template(image, name) == "MNI152NLin6Asym"
    with pytest.raises(InputError, match="away"):
        volume_template(_image((91, 109, 8), _moved(a23=90.0)), name)
