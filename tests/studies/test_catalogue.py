"""Studies opened from a line of text: how settings are read, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from bids_makers import make_bids
from tribrain.errors import InputError
from tribrain.studies.catalogue import open_study


@pytest.mark.parametrize(
    ("key", "text", "fits"),
    [
        ("n_subjects", "x", "a whole number fits"),
        ("films", "1.5", "a whole number fits"),
        ("seed", "", "a whole number fits"),
        ("repetition_time", "abc", "a number fits"),
        ("snr", "1,5", "a number fits"),
        ("nonlinear", "yes", "true or false fits"),
    ],
)
def test_text_that_is_no_number_says_what_fits(key, text, fits):
    with pytest.raises(InputError) as caught:
        open_study("simulated", {key: text})
    assert str(caught.value) == f"simulated: {key} is {text!r}; {fits}"


def test_a_number_that_may_be_none_says_so(tmp_path):
    folder = make_bids(tmp_path / "data")
    with pytest.raises(InputError, match="repetition_time is 'x'; a number or none fits"):
        open_study(f"bids:{folder}", {"repetition_time": "x"})
    assert open_study(f"bids:{folder}", {"repetition_time": "none"}).repetition_time is None


@pytest.mark.parametrize(
    ("text", "labels"),
    [("01", ("01",)), ("01,02", ("01", "02")), ("01, 02,", ("01", "02")), ("", ())],
)
def test_commas_part_the_labels_of_a_field_that_holds_several(tmp_path, text, labels):
    folder = make_bids(tmp_path / "data")
    assert open_study(f"bids:{folder}", {"subjects": text}).subjects == labels


def test_what_no_text_can_say_is_left_to_python():
    with pytest.raises(InputError, match="people cannot be set from the command line; use Python"):
        open_study("simulated", {"people": "3"})
