"""Adapting to people of a simulated study, whose truth is known."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import warnings
from functools import partial

import numpy as np
import pytest
import torch

import tribrain
from tribrain.encoder.adapters import AdaptedModel, with_rows
from tribrain.encoder.low_rank import compressed
from tribrain.errors import InputError, InputWarning
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import PreparedStudy, open_prepared
from tribrain.studies.simulated import Simulated
from tribrain.studies.splits import split
from tribrain.training import adapt as adapting
from tribrain.training import adapt_people
from tribrain.training.adapt import METHODS, AdaptSettings, adapt, varying
from tribrain.training.adapt_data import (
    Rows,
    adaptation_data,
    find_people,
    last_share,
    read_rows,
    with_sides,
)
from tribrain.training.adapt_people import ridge_people
from tribrain.training.adapt_train import trainable, with_validation
from tribrain.training.run import train_recipe
from tribrain.training.series import Series
from tribrain.training.settings import read_recipe
from tribrain.training.sides import is_trained, member_split

pytestmark = pytest.mark.filterwarnings("ignore:.*(share|seed|side).*:tribrain.errors.InputWarning")

OPTIONS = {"films": 12, "minutes": 0.5, "space": 30, "snr": 2.0}
TEST = 0.25


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four people, twelve films of half a minute, 30 parcels."""
    folder = tmp_path_factory.mktemp("prepared") / "simulated"
    prepare(Simulated(n_subjects=4, **OPTIONS), folder)
    return folder


@pytest.fixture(scope="module")
def model(store, tmp_path_factory):
    """The folder of a model of the first two people."""
    changes = [
        f"data.studies={[str(store)]}",
        "data.held_out=['03','04']",
        "data.length=20",
        "data.step=10",
        "encoder.rank=16",
        "training.rate=1e-2",
        "training.epochs=4",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return train_recipe(read_recipe("debug", changes), tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def study(store):
    return open_prepared(store)


@pytest.fixture(scope="module")
def base(model):
    return tribrain.load_model(model, device="cpu", cache=False)


def series_of(film: str) -> dict[str, np.ndarray]:
    found = Simulated(n_subjects=4, **OPTIONS).features(film).series
    return {name: np.asarray(part) for name, part in found.items()}


def no_film(stimulus: object) -> Series:
    raise AssertionError(f"{stimulus} is a feature series and needs no extraction")


def rows_of(base, study, people, **options):
    start = with_rows(base.card, base.encoder, rows_unseen(base) * (len(people) + 1))
    data = adaptation_data(base.card, start, study, people, extract=no_film, **options)
    return start, data, read_rows(start, data, data.side("train"))


def known_spans(study):
    return split(study.runs, {}, lag=5.0)


def rows_unseen(base):
    row = base.encoder.head.rows[-1]
    return [(row.weight, row.bias)]


def test_adapted_is_better_than_never_seen_and_than_alone(base, study, tmp_path, model):
    people = ["03", "04"]
    for person in people:
        _, scores = adapt(base, study, [person], AdaptSettings(minutes=4, test=TEST))
        (score,) = scores
        assert score.person == f"simulated/{person}"
        assert score.seconds == 240
        assert score.where == "on what was held out"
        _, data, rows = rows_of(base, study, [person], minutes=4, test=TEST)
        zeros = np.zeros_like(rows_unseen(base)[0][0]), np.zeros(30)
        (change,) = ridge_people(rows, *zeros).changes
        alone = []
        for stretch in data.side("test"):
            held = read_rows(base.encoder, data, [stretch])
            predicted = held.states @ change[0] + change[1]
            alone += [
                np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, held.measured.T, strict=True)
            ]
        assert score.adapted > score.zero_shot + 0.05
        assert score.adapted > np.mean(alone)


def test_little_data_do_not_make_it_worse(base, study):
    for person in ("03", "04"):
        _, (score,) = adapt(base, study, [person], AdaptSettings(minutes=1, test=0.5))
        assert score.adapted > score.zero_shot - 0.02


def test_a_person_like_no_other_but_for_noise_is_nearly_left_alone(base, study):
    _, _, rows = rows_of(base, study, ["03"], minutes=3)
    weight, bias = (part.numpy() for part in rows_unseen(base)[0])
    truth = rows.states @ weight + bias
    noise = np.random.default_rng(0).normal(size=truth.shape) * truth.std(0) * 2
    fits = ridge_people(dataclasses.replace(rows, measured=truth + noise), weight, bias)
    assert np.linalg.norm(rows.states @ fits.changes[0][0]) < 0.2 * np.linalg.norm(noise)
    assert fits.after[0] > fits.before[0] - 0.01


@pytest.mark.parametrize("method", ["ridge", "head", "lora", "all"])
def test_a_folder_predicts_what_was_adapted_and_the_model_stays(
    method, base, model, study, tmp_path, monkeypatch
):
    before = {file.name: file.read_bytes() for file in model.iterdir()}
    weights = {key: value.clone() for key, value in base.encoder.state_dict().items()}
    way = adapting.train_people.__globals__["WAYS"]
    for name, settings in list(way.items()):  # quicker, and far enough to be told apart
        changed = dataclasses.replace(settings, epochs=min(settings.epochs, 4), rate=1e-2)
        monkeypatch.setitem(way, name, changed)
    found, (score,) = adapt(
        base, study, ["03"], AdaptSettings(method, minutes=4), place=model, out=tmp_path / "new"
    )
    loaded = tribrain.load_model(tmp_path / "new", device="cpu", cache=False)
    assert isinstance(loaded, AdaptedModel)
    assert loaded.adapter.method == method
    features = series_of("film1")
    predicted = [one.predict(features=features).data.values for one in (found, loaded)]
    assert np.array_equal(*predicted)
    unseen = base.predict(features=features).data.values
    assert np.abs(predicted[0] - unseen).max() > 1e-3
    assert {file.name: file.read_bytes() for file in model.iterdir()} == before
    assert all(torch.equal(weights[key], v) for key, v in base.encoder.state_dict().items())
    kinds = {key.split(".")[0] for key in loaded.adapter.tensors}
    assert kinds == {"rows"} | {"lora": {"lora"}, "all": {"weights"}}.get(method, set())
    assert score.adapted >= score.zero_shot
    assert ("also chose the penalty" in score.where) == (method == "ridge")
    told = json.loads((tmp_path / "new" / "adapter.json").read_text())
    assert told["found"]["scores"][0]["adapted"] == score.adapted
    assert loaded.describe()["adapter"]["base"]["checksums"] == base.card.checksums
    again, _ = adapt(base, study, ["03"], AdaptSettings(method, minutes=4))
    assert np.array_equal(again.predict(features=features).data.values, predicted[0])


def test_what_each_way_trains(base, study):
    start, _, _ = rows_of(base, study, ["03", "04"])
    trained = {
        method: {n for n, p in trainable(start, method, 2, 0).named_parameters() if p.requires_grad}
        for method in ("head", "lora", "all")
    }
    rows = {f"head.rows.{row}.{part}" for row in (0, 1) for part in ("weight", "bias")}
    assert trained["head"] == rows
    assert rows < trained["lora"]
    assert all(name.endswith((".up", ".down")) for name in trained["lora"] - rows)
    every = {name for name, _ in start.named_parameters()}
    assert every - trained["all"] == {f"head.rows.2.{part}" for part in ("weight", "bias")}
    assert not any(p.requires_grad for p in start.parameters())


def test_several_people_share_a_row_where_that_helps(base, study):
    said = []
    model, scores = adapt(
        base, study, ["03", "sub-04"], AdaptSettings(minutes=2, test=TEST), said=said.append
    )
    assert [score.person for score in scores] == ["simulated/03", "simulated/04"]
    assert model.subjects == ("simulated/03", "simulated/04")
    assert "from a shared row" in said[0]
    assert np.mean([s.adapted for s in scores]) > np.mean([s.zero_shot for s in scores])


def test_a_shared_row_is_found_where_people_are_alike():
    random = np.random.default_rng(0)
    n, width, outputs, people = 150, 6, 20, 4
    shared = random.normal(size=(width, outputs))
    states = random.normal(size=(people * n, width)).astype(np.float32)
    who = np.repeat(np.arange(people), n)
    measured = states @ shared + 6 * random.normal(size=(people * n, outputs))
    seconds = np.tile(np.arange(n), people)
    rows = Rows(states, measured.astype(np.float32), seconds, seconds + 1000 * who, who)
    zero = np.zeros((width, outputs)), np.zeros(outputs)
    fits = ridge_people(rows, *zero)
    assert fits.shared is not None
    assert len(fits.changes) == people
    apart = [
        ridge_people(dataclasses.replace(rows.of(person), people=np.zeros(n, int)), *zero)
        for person in range(people)
    ]
    for change, own in zip(fits.changes, apart, strict=True):
        error, alone = (np.linalg.norm(one - shared) for one in (change[0], own.changes[0][0]))
        assert error < 0.8 * alone


def noise_of(people: int, shuffled: bool, seed: int = 0) -> Rows:
    """Slow noise of 200 clips of 3 s, and slow states; each person's clips in one or own order."""
    random = np.random.default_rng(seed)
    n, width, outputs = 600, 64, 20

    def slow(columns):
        found = random.normal(size=(n, columns))
        for row in range(1, n):
            found[row] += 0.9 * found[row - 1]
        return found

    orders = [random.permutation(200) if shuffled and p else np.arange(200) for p in range(people)]
    return Rows(
        np.concatenate([slow(width) for _ in orders]).astype(np.float32),
        np.concatenate([slow(outputs) for _ in orders]).astype(np.float32),
        np.concatenate([100_000 * np.repeat(o, 3) + np.tile(np.arange(3), 200) for o in orders]),
        np.concatenate([100_000 * p + np.arange(n) for p in range(people)]),
        np.repeat(np.arange(people), n),
    )


@pytest.mark.parametrize("shuffled", [False, True])
def test_noise_is_not_predicted_in_whatever_order_clips_were_shown(shuffled):
    rows = noise_of(3, shuffled)
    zero = np.zeros((64, 20)), np.zeros(20)
    fits = ridge_people(rows, *zero)
    assert max(fits.after) < 0.1
    assert np.linalg.norm(rows.of(1).states @ fits.changes[1][0]) < 0.3 * np.linalg.norm(
        rows.of(1).measured
    )


def test_minutes_and_the_test_are_what_they_are_said_to_be(base, study):
    _, data, rows = rows_of(base, study, ["03", "04"], minutes=2.2, test=TEST)
    assert [(rows.people == person).sum() for person in (0, 1)] == [132, 132]
    order = [run.task for run in study.runs if run.subject == "03"]
    train, test = ({s.span.group for s in data.side(side)} for side in ("train", "test"))
    assert train == set(order[:5])
    assert test == set(order[-3:])
    lasts = [s.stop - s.first for s in data.side("train") if s.span.group == order[4]]
    assert lasts == [12, 12]
    # Same seconds of one film have one position, whoever saw them.
    assert np.array_equal(rows.of(0).positions, rows.of(1).positions)
    assert len(np.unique(rows.of(0).positions)) == 132
    part = with_validation(data)
    assert {s.side for s in part.stretches} == {"train", "validation"}
    for person in ("03", "04"):
        train, held = (
            [one.span for one in part.side(side) if one.span.subject == person]
            for side in ("train", "validation")
        )
        last = max(train, key=lambda span: order.index(span.group))
        first = min(held, key=lambda span: order.index(span.group))
        assert (order.index(last.group), last.end + 3) <= (order.index(first.group), first.begin)
        seconds = sum(span.hours for span in held) * 3600
        assert seconds == pytest.approx(0.2 * 132, abs=4)


def test_nobody_is_trained_on_what_another_is_validated_on(base, study):
    _, data, _ = rows_of(base, study, ["03", "04"])
    spans = [one.span for one in data.stretches]
    of = {person: [span for span in spans if span.subject == person] for person in ("03", "04")}
    order = [*of["03"], *reversed(of["04"])]  # shown to the second the other way round
    part = with_validation(with_sides(data, dict.fromkeys(order, "train")), 0.3)
    train, held = (
        {
            (one.span.group, second)
            for one in part.side(side)
            for second in range(round(one.span.begin), round(one.span.end))
        }
        for side in ("train", "validation")
    )
    assert not train & held
    for person, own in of.items():
        seconds = [
            one.stop - one.first for one in part.side("validation") if one.span.subject == person
        ]
        assert sum(seconds) == pytest.approx(0.3 * 3600 * sum(one.hours for one in own), abs=4)
    assert {group for group, _ in held} == {span.group for span in of["03"][-4:]}


def test_repeats_are_held_out_together(base, study):
    _, data, _ = rows_of(base, study, ["03"], minutes=1.5)
    (first, second, third) = data.side("train")
    again = dataclasses.replace(third, run=first.run, span=first.span)
    seen = copy.copy(data)
    seen.stretches = (first, second, again)
    sides = last_share(seen, 0.2)
    assert {span.group for span, side in sides.items() if side == "validation"} == {
        second.span.group
    }


def test_outputs_that_say_nothing_stay_as_they_are(base, study):
    _, _, rows = rows_of(base, study, ["03"])
    measured = rows.measured.copy()
    measured[:, 3], measured[:, 5], measured[::2, 7] = np.nan, 2.5, np.nan
    with pytest.warns(InputWarning, match=r"constant \(2 of 03\)"):
        found = varying(dataclasses.replace(rows, measured=measured), ["03"])
    assert np.isnan(found.measured[:, [3, 5]]).all()
    weight, bias = (part.numpy() for part in rows_unseen(base)[0])
    change, shift = ridge_people(found, weight, bias).changes[0]
    assert not change[:, [3, 5]].any()
    assert not shift[[3, 5]].any()
    assert change[:, 7].any()
    with pytest.raises(InputError, match="nothing to adapt to"):
        varying(dataclasses.replace(rows, measured=measured * np.nan), ["03"])


@pytest.mark.parametrize("method", ["lora", "all"])
def test_outputs_that_are_left_out_train_nothing(method, base, study, monkeypatch):
    way = adapting.train_people.__globals__["WAYS"]
    monkeypatch.setitem(way, method, dataclasses.replace(way[method], epochs=2, rate=1e-2))
    found = []
    plain = PreparedStudy.window
    for value in (2.5, -40.0):  # what it is does not matter

        def window(self, *given, value=value):
            read = plain(self, *given).copy()
            read[:, 3] = value
            return read

        with monkeypatch.context() as patch:
            patch.setattr(PreparedStudy, "window", window)
            with pytest.warns(InputWarning, match=r"constant \(1 of 03\)"):
                found.append(adapt(base, study, ["03"], AdaptSettings(method, minutes=4))[0])
    first, second = (one.adapter.tensors for one in found)
    assert any(key.startswith(("lora", "weights")) for key in first)
    assert first.keys() == second.keys()
    assert all(torch.equal(one, second[key]) for key, one in first.items())


def test_errors_of_factors_are_of_the_model_that_was_trained(base, study, monkeypatch):
    way = adapting.train_people.__globals__["WAYS"]
    monkeypatch.setitem(way, "all", dataclasses.replace(way["all"], rate=1e-2))
    read = []

    def keep(change, states, **_):
        read.append(states)
        return compressed(change, states)

    monkeypatch.setattr(adapting, "compressed", keep)
    model, _ = adapt(base, study, ["03"], AdaptSettings("all", minutes=4))
    _, data, rows = rows_of(base, study, ["03"], minutes=4, step=5)
    expected = read_rows(model.encoder, data, data.side("train")).states
    np.testing.assert_allclose(read[0], expected, atol=1e-4)
    assert np.abs(rows.states - expected).max() > 0.01


def test_a_shared_row_keeps_what_is_added_on_average(monkeypatch):
    random = np.random.default_rng(0)
    states = random.normal(size=(400, 6)).astype(np.float32) + 5
    measured = (states @ random.normal(size=(6, 9))).astype(np.float32)
    rows = Rows(states, measured, np.arange(400), np.arange(400), np.zeros(400, int))
    monkeypatch.setattr(adapt_people, "SHARED_RANK", 2)
    weight, bias = adapt_people._shared_row(rows, (np.zeros((6, 9)), np.zeros(9)), 1e-3)
    assert np.linalg.matrix_rank(weight, tol=1e-4) == 2
    np.testing.assert_allclose((states @ weight + bias).mean(0), measured.mean(0), atol=1e-3)


def test_an_adapter_is_split_by_its_model_and_by_what_it_was_adapted_to(base, model, study):
    new = model.parent / "new"  # in the run folder of its model, of which it is another model
    adapt(base, study, ["03"], AdaptSettings(minutes=2), place=model, out=new)
    _, data, _ = rows_of(base, study, ["03"], minutes=2)
    films = {one.span.group for one in data.stretches}
    assert len(films) < 12
    told, known = (member_split(folder.name, folder, [study]) for folder in (new, model))
    changed = set()
    for span in known_spans(study):
        run = study.run(span.run)
        before, after = known.side(span, run), told.side(span, run)
        assert after == ("train" if span.group in films else before)
        assert is_trained(told.trained, span, run) or span.group not in films
        changed |= {before} if before != after else set()
    assert "validation" in changed  # rows that would judge it
    assert told.people == {"simulated/01", "simulated/02", "simulated/03"}
    assert set(known.trained) < set(told.trained)
    file = new / "adapter.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps(whole | {"trained_on": None}))
    assert member_split("new", new, [study]) is None
    shutil.rmtree(new)
    # Nor is any other folder in that place what was trained there.
    shutil.copytree(model, model.parent / "copy")
    assert member_split("copy", model.parent / "copy", [study]) is None
    shutil.rmtree(model.parent / "copy")


def test_who_and_what_is_refused(base, study, tmp_path):
    for people, settings, words in (
        (["05"], {}, "there are 01, 02, 03, 04"),
        ([], {}, "no subject"),
        (["03"], {"minutes": 0.5}, "60 s or more fit"),
        (["03"], {"minutes": -1.0}, "more than 0"),
        (["03"], {"test": 1.5}, "under 1"),
        (["03"], {"method": "magic"}, ", ".join(METHODS)),
        (["03"], {"rank": 0}, "1 or more"),
    ):
        with pytest.raises(InputError, match=words):
            adapt(base, study, people, AdaptSettings(**settings))
    with pytest.warns(InputWarning, match="was trained on 01"):
        adapt(base, study, ["01"], AdaptSettings(minutes=1))
    one = dataclasses.replace(study, runs=study.runs[:1])
    with pytest.raises(InputError, match="one group"):
        rows_of(base, one, [study.runs[0].subject], test=0.5)
    assert find_people(study, ["sub-03", "simulated/04", "03"]) == ["03", "04"]
    wide = dataclasses.replace(base.card, build=base.card.build)
    start = with_rows(wide, base.encoder, rows_unseen(base) * 2)
    start.feature_dims["text"] = (2, 99)
    with pytest.raises(InputError, match=r"text have .* the model reads \(2, 99\)"):
        adaptation_data(base.card, start, study, ["03"], extract=no_film)


def test_fewer_minutes_than_were_asked_for_are_said(base, study):
    with pytest.warns(InputWarning, match=r"of 500 minutes asked for, 03 has \d+\.\d; all"):
        adapt(base, study, ["03"], AdaptSettings(minutes=500))


def test_a_space_of_its_own(base, tmp_path):
    options = OPTIONS | {"space": 12, "films": 8}
    prepare(Simulated(n_subjects=3, **options), tmp_path / "other")
    other = open_prepared(tmp_path / "other")
    with pytest.raises(InputError, match=r"the model has simulated30 \(30 values\)"):
        adapt(base, other, ["03"], AdaptSettings("head"))
    with pytest.warns(InputWarning, match="start from nothing"):
        found, (score,) = adapt(base, other, ["03"], AdaptSettings(test=TEST))
    assert found.space.size == 12
    assert np.isnan(score.zero_shot)
    assert score.adapted > 0.1
    assert found.predict(features=series_of("film1")).data.shape[1] == 12


def test_the_verb_adapts_and_predicts(model, store, tmp_path, monkeypatch, run_program):
    monkeypatch.chdir(tmp_path)

    call = partial(run_program, "adapt")
    code, out, err = call(model, store, "--subject", "03", "--minutes", "2", "--no-cache")
    assert code == 0, err
    score, last = out.splitlines()
    assert score.startswith("simulated/03: adapted to 2.0 min; r ")
    assert "cross-validated" in score
    assert last.startswith("written to 03_adapter (ridge, ")
    assert last.endswith("predict with --model 03_adapter")
    assert tribrain.load_model("03_adapter", device="cpu").subjects == ("simulated/03",)
    for arguments, words in (
        ((model, store, "--subject", "03"), "choose another --out"),
        ((model, store, "--subject", "09"), "there are 01, 02, 03, 04"),
        (("03_adapter", store, "--subject", "04"), "no trained model by itself"),
        (("textbook", store, "--subject", "04"), "no trained model by itself"),
        ((model, tmp_path, "--subject", "04"), "no prepared study"),
        ((model, store, "--subject", "04", "--method", "x"), "auto, head"),
    ):
        code, out, err = call(*arguments)
        assert code == 2, (arguments, out)
        assert len([line for line in err.splitlines() if line.startswith("tribrain: ")]) == 1
        assert words in err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["03_adapter"]
