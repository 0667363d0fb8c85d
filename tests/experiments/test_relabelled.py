from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import msicube as mc
from msicube.errors import LeakageError, UsageError
from msicube.experiments.recipe import DataSection
from msicube.experiments.relabelled import PatchDraw, relabel
from msicube.experiments.split import resolve_split, shuffled_labels
from msicube.preprocess import SelectChannels
from msicube.store import Study
from msicube.stream import SpectrumStream


def test_the_study_shows_the_labels_and_the_split_of_the_experiment(study: Study) -> None:
    before = study.samples.copy()
    data = DataSection(split="patient", test_fraction=0.4)
    split = resolve_split(data, study.samples, seed=3)
    labels = shuffled_labels(split, seed=3)
    own = relabel(study, split, data, labels)
    assert own.samples.index.tolist() == study.slides
    assert {s: own.samples["label"][s] for s in split.train} == labels
    assert tuple(own.samples.index[own.samples["split"] == "test"]) == split.test
    pd.testing.assert_frame_equal(study.samples, before)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(own)).samples, own.samples)

    stream = SpectrumStream(own, slides=split.train)
    batch = next(iter(stream))
    names = [stream.slides[i] for i in batch["slide"].tolist()]
    assert [stream.classes[i] for i in batch["label"].tolist()] == [labels[name] for name in names]
    with pytest.raises(LeakageError):
        SelectChannels(5).fit(own, slides=split.test)


def test_patches_are_held_out_whole_and_streams_see_one_part(study: Study) -> None:
    data = DataSection(split="patch", test_fraction=0.3)
    split = resolve_split(data, study.samples, seed=0)
    own = relabel(study, split, data, draw=PatchDraw(size=6, fraction=0.3, seed=4))
    slide = study.slides[0]
    train, test = (own.part(name).mask(slide) for name in ("train", "test"))
    acquired = study.acquired(slide)
    assert not (train & test).any()
    assert ((train | test) == acquired).all()
    for y in range(0, test.shape[0], 6):
        for x in range(0, test.shape[1], 6):
            inside = test[y : y + 6, x : x + 6][acquired[y : y + 6, x : x + 6]]
            assert inside.all() or not inside.any()
    share = [own.part("test").mask(name).sum() / study.acquired(name).sum() for name in study.slides]
    assert 0.2 < np.mean(share) < 0.4
    assert len(set(share)) == len(share), "every slide has a draw of its own"

    again = pickle.loads(pickle.dumps(own.part("test")))
    assert (again.acquired(slide) == test).all()
    stream = SpectrumStream(own.part("test"), slides=[slide], lanes=1)
    assert stream.n_samples == test.sum()


def test_only_the_pixels_of_the_experiment_are_seen(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "study.zarr"
    shutil.copytree(study.path, path)
    mc.make_mask(str(path), mc.TICMask(threshold=1.0), name="bright")
    copy = mc.open_study(path)
    data = DataSection(where="~bright")
    own = relabel(copy, resolve_split(data, copy.samples, seed=0), data)
    for slide in copy.slides:
        expected = copy.acquired(slide) & ~copy.mask(slide, "bright")
        assert (own.acquired(slide) == expected).all()
        assert not own.mask(slide, "bright").any()


def test_where_labels_are_shuffled_nothing_else_tells_the_class(study: Study) -> None:
    data = DataSection()
    split = resolve_split(data, study.samples, seed=0)
    plain = relabel(study, split, data)
    assert set(study.samples.columns) <= set(plain.samples.columns)
    frame = study.samples.assign(diagnosis=study.samples["label"])
    study.samples = frame
    with pytest.raises(UsageError, match="no column 'diagnosis'"):
        SelectChannels(5, by="diagnosis").fit(relabel(study, split, data, shuffled_labels(split, seed=0)))
