from __future__ import annotations

import pickle

import pandas as pd
import pytest

from msicube.errors import LeakageError, UsageError
from msicube.experiments.recipe import DataSection
from msicube.experiments.relabelled import relabel
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


def test_where_labels_are_shuffled_nothing_else_tells_the_class(study: Study) -> None:
    data = DataSection()
    split = resolve_split(data, study.samples, seed=0)
    plain = relabel(study, split, data)
    assert set(study.samples.columns) <= set(plain.samples.columns)
    frame = study.samples.assign(diagnosis=study.samples["label"])
    study.samples = frame
    with pytest.raises(UsageError, match="no column 'diagnosis'"):
        SelectChannels(5, by="diagnosis").fit(relabel(study, split, data, shuffled_labels(split, seed=0)))
