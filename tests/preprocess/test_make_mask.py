"""Masks in a study: stored whole or not at all, once, with how they were made, whatever the scheduler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
from distributed import Client

import msicube as mc
from msicube import errors
from msicube.preprocess import (
    PCA,
    BandMask,
    CoverageMask,
    DeadPixelMask,
    OutlierMask,
    Pipeline,
    Standardize,
    TICMask,
    engine,
)
from msicube.preprocess.masks import making
from msicube.preprocess.masks.jobs import Job
from msicube.store import Location, Study
from msicube.store.lock import write_lock
from msicube.store.masks import RECORD


def again(study: Study) -> Study:
    return mc.open_study(study.path)


def spectra(study: Study, slides: list[str]) -> Any:
    return np.concatenate([study[name]["intensity"].values[study.acquired(name)] for name in slides])


def fail_at(patch: pytest.MonkeyPatch, place: str) -> None:
    """Let the disk be full where a place is written to."""
    put = Location.put

    def failing(location: Location, data: bytes) -> None:
        if place in location.url:
            raise OSError("no space left on device")
        put(location, data)

    patch.setattr(Location, "put", failing)


class Wide:
    """A study of which just the axis is asked for."""

    def __init__(self, study: Study, n_channels: int) -> None:
        self.modality = study.modality
        self._n_channels = n_channels

    def axis(self, slide: str) -> Any:
        return np.arange(1.0, 1 + self._n_channels)


@pytest.fixture
def train(own_study: Study) -> list[str]:
    return [s for s in own_study.slides if own_study.samples["split"][s] == "train"]


def test_a_mask_of_every_slide(own_study: Study, train: list[str]) -> None:
    events: list[Any] = []
    made = mc.make_mask(
        own_study, BandMask(max_iter=3), name="tissue", progress=lambda *event: events.append(event)
    )
    mask = BandMask(max_iter=3).fit(spectra(own_study, train))
    assert [one.slide for one in made] == own_study.slides
    for one in made:
        acquired, X = own_study.acquired(one.slide), spectra(own_study, [one.slide])
        stored = again(own_study)[one.slide]["tissue"]
        assert (stored.dims, stored.dtype) == (("y", "x"), bool)
        np.testing.assert_array_equal(stored.values[acquired], mask.predict(X))
        assert not stored.values[~acquired].any()
        np.testing.assert_array_equal(own_study.mask(one.slide, "tissue"), stored.values)
        assert (one.status, one.spectra, one.held) == ("made", len(X), stored.values.sum())
        assert one.fraction == pytest.approx(stored.values[acquired].mean())
        record = stored.attrs[RECORD]
        assert record["fitted_on"] == train
        assert record["steps"][0]["class"] == "BandMask"
        assert record["steps"][0]["params"]["max_iter"] == 3
        np.testing.assert_allclose(record["learned"]["centres_"], mask.centres_, rtol=1e-9)
        assert record["software"].startswith("msicube ")
        tiles = len(own_study.cube(one.slide).tiles())
        assert (one.slide, tiles, tiles) in events
    assert mc.validate(again(own_study)) == []
    assert not Path(own_study.path + ".partial").exists()


def test_what_is_there_is_not_made_again(own_study: Study, monkeypatch: Any) -> None:
    first = mc.make_mask(own_study, TICMask(), name="tissue", slides=own_study.slides[1:3])
    assert [one.slide for one in first] == own_study.slides[1:3]
    made = mc.make_mask(own_study, TICMask(), name="tissue")
    assert [one.status for one in made] == ["made", "present", "present", "made", "made", "made"]
    assert replace(made[1], status="made") == first[0]
    with pytest.raises(
        errors.UsageError, match="has a mask 'tissue' that was made in another way: say overwrite"
    ):
        mc.make_mask(own_study, TICMask(log=True), name="tissue")
    mc.make_mask(own_study, TICMask(log=True), name="tissue", overwrite=True)
    with pytest.raises(errors.UsageError, match="made in another way"):
        mc.make_mask(own_study, TICMask(), name="tissue", slides=[own_study.slides[0]])


def test_each_slide_by_itself(own_study: Study) -> None:
    made = mc.make_mask(own_study, BandMask(max_iter=3), name="tissue", per_slide=True, images=False)
    for slide in own_study.slides:
        X = spectra(own_study, [slide])
        expected = BandMask(max_iter=3).fit_predict(X)
        np.testing.assert_array_equal(own_study.mask(slide, "tissue")[own_study.acquired(slide)], expected)
        assert again(own_study)[slide]["tissue"].attrs[RECORD]["fitted_on"] == [slide]
    assert {one.status for one in made} == {"made"}
    once_more = mc.make_mask(own_study, BandMask(max_iter=3), name="tissue", per_slide=True)
    assert {one.status for one in once_more} == {"present"}


def test_several_slides_at_a_time_share_the_workers(own_study: Study, monkeypatch: Any) -> None:
    """The first pieces of two slides wait for each other, so that slide after slide would never end."""
    meet, lock = Barrier(2, timeout=60), Lock()
    seen, running, most = set[str](), 0, 0
    gather = engine.gather

    def watched(piece: Any, *rest: Any) -> Any:
        nonlocal running, most
        with lock:
            first = piece.cube.slide not in seen
            seen.add(piece.cube.slide)
            running += 1
            most = max(most, running)
        if first:
            meet.wait()
        found = gather(piece, *rest)
        with lock:
            running -= 1
        return found

    monkeypatch.setattr(engine, "gather", watched)
    events: list[Any] = []
    options: dict[str, Any] = {"progress": lambda *event: events.append(event), "workers": 2}
    mc.make_mask(own_study, BandMask(max_iter=2), name="several", per_slide=True, **options)
    assert most == 2, "as many tasks as workers, however many slides"
    assert {event[0] for event in events} > set(own_study.slides)
    monkeypatch.setattr(engine, "gather", gather)
    mc.make_mask(own_study, BandMask(max_iter=2), name="single", per_slide=True, scheduler="synchronous")
    for slide in own_study.slides:
        masks = [again(own_study)[slide][name] for name in ("several", "single")]
        np.testing.assert_array_equal(*masks)
        assert masks[0].attrs[RECORD] == masks[1].attrs[RECORD]


def test_a_slide_that_fails_stops_the_others(own_study: Study, monkeypatch: Any) -> None:
    monkeypatch.setattr(making, "SLIDES_AT_ONCE", 2)
    fail_at(monkeypatch, "slide_003/tissue")
    with pytest.raises(OSError, match="no space left"):
        mc.make_mask(own_study, TICMask(), name="tissue", per_slide=True, workers=2)
    done = [slide for slide in own_study.slides if "tissue" in own_study.masks(slide)]
    assert "slide_003" not in done
    assert "slide_006" not in done
    assert mc.validate(again(own_study)) == []


def test_covariances_of_wide_axes_are_made_slide_after_slide(own_study: Study) -> None:
    job = Job(own_study, "tissue", "acquired", (), overwrite=False)
    run: dict[str, Any] = {"scheduler": "threads", "workers": 64}
    assert making._slides_at_once(job, "slide_001", run) == making.SLIDES_AT_ONCE
    assert making._slides_at_once(job, "slide_001", {**run, "workers": 3}) == 3
    assert making._slides_at_once(job, "slide_001", {**run, "scheduler": "synchronous"}) == 1
    wide = replace(job, study=Wide(own_study, 8192))
    assert making._slides_at_once(wide, "slide_001", run) == 1


def test_only_where_another_mask_says(own_study: Study, train: list[str]) -> None:
    mc.make_mask(own_study, TICMask(), name="bright")
    made = mc.make_mask(own_study, OutlierMask(n_components=4), name="odd", where="bright", images=True)
    chosen = {s: own_study.mask(s, "bright") for s in own_study.slides}
    X = np.concatenate([own_study[s]["intensity"].values[chosen[s]] for s in train])
    mask = OutlierMask(n_components=4).fit(X)
    for one in made:
        dataset = again(own_study)[one.slide]
        where = chosen[one.slide]
        features = mask.transform(dataset["intensity"].values[where])
        np.testing.assert_array_equal(dataset["odd"].values[where], features[:, 0] > 0)
        assert not dataset["odd"].values[~where].any()
        for column, name in ((1, "odd_t2"), (2, "odd_q")):
            np.testing.assert_allclose(dataset[name].values[where], features[:, column], rtol=1e-4)
            assert np.isnan(dataset[name].values[~where]).all()
            assert dataset[name].dtype == np.float32
        assert one.spectra == where.sum()
    # Made on other pixels, it is another mask.
    mc.make_mask(own_study, TICMask(threshold=0.0), name="bright", overwrite=True)
    with pytest.raises(errors.UsageError, match="made in another way"):
        mc.make_mask(own_study, OutlierMask(n_components=4), name="odd", where="bright", images=True)
    with pytest.raises(errors.UsageError, match="has no mask 'tissue', it has acquired, bright, odd"):
        mc.make_mask(own_study, TICMask(), name="other", where="~tissue")


def test_steps_before_the_mask_and_masks_fitted_before(own_study: Study) -> None:
    pipeline = Pipeline([Standardize(), OutlierMask(n_components=3)])
    mc.make_mask(own_study, pipeline, name="odd")
    fitted = Pipeline([Standardize(), OutlierMask(n_components=3)]).fit(own_study)
    slide = own_study.slides[0]
    expected = fitted.transform(spectra(own_study, [slide]))[:, 0] > 0
    np.testing.assert_array_equal(own_study.mask(slide, "odd")[own_study.acquired(slide)], expected)
    assert {one.status for one in mc.make_mask(own_study, fitted, name="odd")} == {"present"}
    mask = TICMask(threshold=1.0).fit(own_study)
    mc.make_mask(own_study, mask, name="any")
    np.testing.assert_array_equal(own_study.mask(slide, "any"), own_study.acquired(slide))


def test_a_mask_is_saved_and_loaded_as_a_step(own_study: Study) -> None:
    for number, mask in enumerate([BandMask(max_iter=3), TICMask(), OutlierMask(), DeadPixelMask(n_mads=5)]):
        pipeline = Pipeline([mask]).fit(own_study)
        pipeline.save(own_study, name=f"mask{number}")
        loaded = Pipeline.load(own_study, name=f"mask{number}")
        X = spectra(own_study, own_study.slides[:1])
        assert loaded.transform(X).tobytes() == pipeline.transform(X).tobytes()


def test_a_mask_is_tidied(own_study: Study) -> None:
    mc.make_mask(own_study, TICMask(), name="bright")
    tidy = CoverageMask(of="bright", radius=1, min_fraction=0.5, min_area=5, max_hole=9)
    made = mc.make_mask(own_study, tidy, name="tissue")
    for one in made:
        acquired = own_study.acquired(one.slide)
        expected = tidy.predict(own_study.mask(one.slide, "bright"), acquired)
        np.testing.assert_array_equal(own_study.mask(one.slide, "tissue"), expected)
    assert {one.status for one in mc.make_mask(own_study, tidy, name="tissue")} == {"present"}
    assert mc.validate(again(own_study)) == []


def test_any_scheduler_makes_the_same_masks(own_study: Study, client: Client) -> None:
    found = []
    slides = own_study.slides[:2]
    options: dict[str, Any] = {"slides": slides, "fit_slides": slides, "allow_test": True, "images": True}
    for scheduler in ("synchronous", "threads", client):
        for name, mask in {"tissue": BandMask(max_iter=3), "odd": OutlierMask()}.items():
            mc.make_mask(own_study.path, mask, name=name, scheduler=scheduler, **options)
        names = [
            Path(own_study.path, slide, name)
            for slide in slides
            for name in ("tissue", "odd", "odd_t2", "odd_q")
        ]
        files = [path for name in names for path in sorted(name.rglob("*")) if path.is_file()]
        found.append({path: path.read_bytes() for path in files})
        for path in files:
            path.unlink()
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 16


def test_a_run_that_fails_leaves_whole_masks_and_goes_on(own_study: Study, monkeypatch: Any) -> None:
    monkeypatch.setattr("msicube.preprocess.masks.deciding.BATCH_TILES", 1)
    with monkeypatch.context() as patch:
        fail_at(patch, "slide_003/tissue")
        with pytest.raises(OSError, match="no space left"):
            mc.make_mask(own_study, BandMask(max_iter=3), name="tissue", scheduler="synchronous")
    assert [slide for slide in own_study.slides if "tissue" in own_study.masks(slide)] == [
        "slide_001",
        "slide_002",
    ]
    made = mc.make_mask(own_study, BandMask(max_iter=3), name="tissue")
    assert [one.status for one in made] == ["present", "present", "made", "made", "made", "made"]


def test_slides_of_which_nothing_can_be_made(build_study: Any, slide: Any) -> None:
    hollow = replace(slide, acquired=np.zeros_like(slide.acquired), cube=np.zeros_like(slide.cube))
    broken = replace(slide, cube=np.where(slide.acquired[..., None], np.nan, slide.cube))
    one = replace(slide, acquired=np.indices(slide.acquired.shape).sum(axis=0) == 0)
    study = build_study({"broken": broken, "good": slide, "hollow": hollow, "one": one})
    made = mc.make_mask(study, BandMask(max_iter=3), name="tissue", per_slide=True)
    assert [(m.held, m.remark) for m in (made[0], made[2], made[3])] == [
        (0, "no finite spectrum"),
        (0, "no pixel to look at"),
        (1, ""),
    ]
    assert made[2].fraction is None
    assert 0 < made[1].held < made[1].spectra
    assert again(study)["one"]["tissue"].attrs[RECORD]["learned"]["n_clusters_"] == 1
    dead = mc.make_mask(study, DeadPixelMask(), name="dead")
    assert dead[0].held == dead[0].spectra == slide.acquired.sum()
    with pytest.raises(errors.NoFiniteSpectrum, match="no pixel is acquired"):
        mc.make_mask(study, BandMask(max_iter=3), name="other", fit_slides=["hollow"])


def test_what_make_mask_refuses(own_study: Study, train: list[str]) -> None:
    study, mask = own_study, BandMask(max_iter=3)
    with pytest.raises(errors.UsageError, match="is the name of a variable of every slide"):
        mc.make_mask(study, mask, name="acquired")
    with pytest.raises(errors.UsageError, match="is no expression of masks"):
        mc.make_mask(study, mask, name="tissue", where="tissue and dead")
    with pytest.raises(errors.UnknownSlide, match="no slide 'nowhere'"):
        mc.make_mask(study, mask, name="tissue", slides=["nowhere"])
    with pytest.raises(errors.UsageError, match="leave out fit_slides"):
        mc.make_mask(study, mask, name="tissue", per_slide=True, fit_slides=train)
    test = [slide for slide in study.slides if slide not in train and study.samples["split"][slide] == "test"]
    with pytest.raises(errors.LeakageError):
        mc.make_mask(study, mask, name="tissue", fit_slides=test)
    with pytest.raises(errors.UsageError, match="the last step of the pipeline has to be a mask"):
        mc.make_mask(study, Pipeline([mask, PCA(1)]), name="tissue")
    with pytest.raises(errors.UsageError, match="expected, found PCA"):
        mc.make_mask(study, PCA(2), name="tissue")  # type: ignore[arg-type]
    with write_lock(study.location), pytest.raises(errors.StudyLocked):
        mc.make_mask(study, mask, name="tissue")
    PCA(2).fit(study)
    pipeline = Pipeline([PCA(2)]).fit(study)
    pipeline.save(study, name="scores")
    mc.apply(study, name="scores")
    with pytest.raises(errors.UsageError, match="has a variable 'scores' that is no mask"):
        mc.make_mask(study, mask, name="scores", overwrite=True)
    assert all(study.masks(slide) == ["acquired"] for slide in study.slides)


def test_images_of_another_mask_are_not_replaced(own_study: Study) -> None:
    mc.make_mask(own_study, TICMask(), name="odd_q")
    with pytest.raises(errors.UsageError, match="has a variable 'odd_q' that belongs to no mask 'odd'"):
        mc.make_mask(own_study, OutlierMask(), name="odd", images=True)
    mc.make_mask(own_study, OutlierMask(), name="odd")


def test_validation_finds_what_is_wrong_with_a_mask(own_study: Study) -> None:
    import json

    import zarr

    mc.make_mask(own_study, TICMask(), name="tissue")
    one, two = own_study.slides[:2]
    array = zarr.open_array(own_study.path, path=f"{one}/tissue", mode="r+")
    array[...] = True
    path = Path(own_study.path, two, "tissue", "zarr.json")
    document = json.loads(path.read_text())
    del document["attributes"][RECORD]["where"]
    path.write_text(json.dumps(document))
    found = [str(finding) for finding in mc.validate(again(own_study))]
    assert any(
        "slide_001: mask tissue holds" in text and "pixels that were not acquired" in text for text in found
    )
    assert any("its record says" in text for text in found)
    assert "slide_002: the record of mask tissue lacks where" in found
