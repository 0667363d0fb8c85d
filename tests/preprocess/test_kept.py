"""Statistics kept in the study: the same bits as without, and only what is new is read."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client

import msicube as mc
from msicube.errors import CorruptStore
from msicube.preprocess import (
    PCA,
    Log1p,
    Pipeline,
    SelectChannels,
    Standardize,
    Step,
    clear_statistics,
    kept,
)
from msicube.preprocess.engine import Tally
from msicube.preprocess.fingerprints import description, source_files
from msicube.preprocess.moments import ClassMoments, Covariance
from msicube.preprocess.packing import pack, unpack
from msicube.preprocess.request import Request, covariance, moments
from msicube.store import CubeArray, Study, slide_digest

FOUR = ["slide_003", "slide_004", "slide_005", "slide_006"]
FIVE = ["slide_002", *FOUR]


@pytest.fixture
def read_slides(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The slides whose intensities were read."""
    found: set[str] = set()
    read = CubeArray.read
    monkeypatch.setattr(CubeArray, "read", lambda cube, *a, **k: found.add(cube.slide) or read(cube, *a, **k))
    return found


def fit(study: Study, slides: list[str], chain: Callable[..., Pipeline], **options: Any) -> Pipeline:
    options = {"cache": True, "allow_test": True, **options}
    return chain(30).fit(mc.open_study(study.location), slides=slides, **options)


def entries(study: Study) -> list[Path]:
    folder = Path(study.path, "_statistics", "entries")
    return sorted(path for path in folder.iterdir() if path.name != "zarr.json")


def change_mask(study: Study, slide: str, name: str) -> None:
    """Take one pixel out of a stored mask."""
    stored = zarr.open_array(study.path, path=f"{slide}/{name}", mode="r+")
    mask = np.asarray(stored[...])
    mask[tuple(np.argwhere(mask)[0])] = False
    stored[...] = mask


def test_a_slide_more_reads_one_slide(own_study: Study, chain: Any, read_slides: set[str]) -> None:
    four = fit(own_study, FOUR, chain)
    assert [one.n_kept for one in four.passes_] == [0, 0]
    read_slides.clear()
    again = fit(own_study, FOUR, chain)
    assert not read_slides
    assert [one.n_kept for one in again.passes_] == [4, 4]
    assert again.fingerprint() == four.fingerprint() == fit(own_study, FOUR, chain, cache=False).fingerprint()
    one_pass = Pipeline([Standardize(), SelectChannels(9)])
    one_pass.fit(own_study, slides=FOUR, cache=True)
    read_slides.clear()
    events: list[tuple[str, int, int]] = []
    one_pass.fit(own_study, slides=FIVE, allow_test=True, cache=True, progress=lambda *e: events.append(e))
    assert read_slides == {"slide_002"}
    assert one_pass.passes_[0].n_kept == 4
    expected = Pipeline([Standardize(), SelectChannels(9)]).fit(own_study, slides=FIVE, allow_test=True)
    assert one_pass.fingerprint() == expected.fingerprint()
    label = "pass 1: moments by label, "
    assert {(label + slide + " (kept)", 1, 1) for slide in FOUR} < set(events)
    n_tiles = len(own_study.cube("slide_002").tiles())
    assert [event for event in events if "(kept)" not in event[0]] == [
        (label + "slide_002", i + 1, n_tiles) for i in range(n_tiles)
    ]


def test_a_fit_that_was_killed_goes_on(own_study: Study, chain: Any, read_slides: set[str]) -> None:
    script = (
        "import msicube as mc, os, signal, sys\n"
        "def stop(label, done, total):\n"
        "    if 'slide_005' in label: os.kill(os.getpid(), signal.SIGKILL)\n"
        "pipe = mc.Pipeline([mc.Standardize(), mc.SelectChannels(9)])\n"
        "pipe.fit(mc.open_study(sys.argv[1]), cache=True, scheduler='synchronous', progress=stop)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, own_study.path], check=False)
    assert killed.returncode == -9
    left = len(entries(own_study))
    assert 1 <= left < 4
    pipeline = Pipeline([Standardize(), SelectChannels(9)]).fit(own_study, cache=True)
    assert pipeline.passes_[0].n_kept == left == 4 - len(read_slides)
    assert pipeline.fingerprint() == pipeline.fit(own_study, cache=False).fingerprint()


def test_nothing_stale_is_taken(own_study: Study, chain: Any, monkeypatch: Any, tmp_path: Path) -> None:
    def n_kept(study: Study = own_study, chain: Any = chain, slides: list[str] = FOUR) -> int:
        return fit(study, slides, chain).passes_[0].n_kept

    assert (n_kept(), n_kept()) == (0, 4)
    # Other steps before the statistic, other classes, another request, another parameter.
    assert n_kept(chain=lambda k: Pipeline([Log1p(), Standardize(), SelectChannels(k)])) == 0
    assert n_kept(chain=lambda k: Pipeline([mc.TICNormalize(target=1.0), Log1p(), Standardize()])) == 0
    assert (
        n_kept(chain=lambda k: Pipeline([mc.TICNormalize(), Log1p(), SelectChannels(k, by="patient")])) == 0
    )
    assert n_kept(chain=lambda k: Pipeline([mc.TICNormalize(), Log1p(), PCA(2)])) == 0
    # A slide whose spectra are others: the mask of the slide is a part of its content.
    change_mask(own_study, "slide_004", "acquired")
    assert n_kept() == 3
    # A copy of the study has the same content.
    shutil.copytree(own_study.path, tmp_path / "copy.zarr")
    assert n_kept(mc.open_study(tmp_path / "copy.zarr")) == 4
    # Other code.
    monkeypatch.setattr(kept, "code_digest", lambda: "another release")
    assert n_kept() == 0


def test_a_mask_is_part_of_the_key(own_study: Study, chain: Any) -> None:
    def n_kept(where: str | None) -> int:
        return fit(own_study, FOUR, chain, where=where).passes_[0].n_kept

    for slide in FOUR:
        folder = Path(own_study.path, slide)
        shutil.copytree(folder / "acquired", folder / "tissue")
    assert (n_kept(None), n_kept("tissue"), n_kept("tissue")) == (0, 0, 4)
    change_mask(own_study, "slide_004", "tissue")
    assert n_kept("tissue") == 3
    assert n_kept(None) == 4


def test_every_scheduler_keeps_the_same_bytes(own_study: Study, client: Client) -> None:
    found = []
    for scheduler in ("threads", "synchronous", client):
        pipeline = Pipeline([Standardize(), SelectChannels(9)])
        pipeline.fit(own_study, cache=True, scheduler=scheduler)
        found.append((pipeline.fingerprint(), {path.name: path.read_bytes() for path in entries(own_study)}))
        again = Pipeline([Standardize(), SelectChannels(9)]).fit(own_study, cache=True, scheduler=scheduler)
        assert (again.fingerprint(), again.passes_[0].n_kept) == (pipeline.fingerprint(), 4)
        clear_statistics(own_study.path)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("damage", [b"", b"half", None], ids=["empty", "other", "cut"])
def test_a_damaged_entry_is_gathered_again(own_study: Study, chain: Any, damage: bytes | None) -> None:
    expected = fit(own_study, FOUR, chain).fingerprint()
    for path in entries(own_study)[::3]:
        path.write_bytes(path.read_bytes()[:-7] if damage is None else damage)
    assert fit(own_study, FOUR, chain).fingerprint() == expected
    assert [one.n_kept for one in fit(own_study, FOUR, chain).passes_] == [4, 4]


def test_the_study_stays_a_study(own_study: Study, chain: Any) -> None:
    before = own_study.slides
    fit(own_study, FOUR, chain)
    assert entries(own_study)
    assert mc.open_study(own_study.path).slides == before
    assert mc.validate(mc.open_study(own_study.path)) == []
    tree = xr.open_datatree(own_study.path, engine="zarr", consolidated=False)
    assert set(before) < set(tree.children)
    assert tree["_statistics"].to_dataset()["entries"].shape == (0,)
    clear_statistics(own_study.path)
    assert not Path(own_study.path, "_statistics").exists()
    assert fit(own_study, FOUR, chain).passes_[0].n_kept == 0


def test_room_is_bounded(own_study: Study, chain: Any, monkeypatch: Any) -> None:
    fit(own_study, FOUR, chain)
    size = max(path.stat().st_size for path in entries(own_study))
    monkeypatch.setattr(kept, "LIMIT_BYTES", 4 * size)
    monkeypatch.setattr("msicube.preprocess.fitting.LIMIT_BYTES", 4 * size)
    other = Pipeline([Log1p(), Standardize()]).fit(own_study, slides=FOUR, cache=True)
    assert sum(path.stat().st_size for path in entries(own_study)) <= 4 * size
    assert other.fit(own_study, slides=FOUR, cache=True).passes_[0].n_kept == 4
    monkeypatch.setattr(kept, "LIMIT_BYTES", 3 * size)  # not all four would fit: none is kept
    shutil.rmtree(Path(own_study.path, "_statistics"))
    fit(own_study, FOUR, chain)
    assert all(path.stat().st_size < size for path in entries(own_study))


def test_a_study_that_cannot_be_written_to_is_fitted_all_the_same(
    own_study: Study, chain: Any, monkeypatch: Any
) -> None:
    def refuse(location: Any, data: bytes) -> None:
        raise PermissionError(13, "read-only file system")

    monkeypatch.setattr("msicube.store.location.Location.put", refuse)
    assert [one.n_kept for one in fit(own_study, FOUR, chain).passes_] == [0, 0]
    assert not Path(own_study.path, "_statistics").exists()


def test_the_environment_turns_it_off(own_study: Study, monkeypatch: Any) -> None:
    Standardize().fit(own_study)
    assert not Path(own_study.path, "_statistics").exists()
    monkeypatch.delenv("MSICUBE_STATISTICS")
    Standardize().fit(own_study)
    assert len(entries(own_study)) == 4


def test_a_remote_study_keeps_its_statistics(own_study: Study, chain: Any) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(own_study.path, "/kept-study.zarr", recursive=True)
    try:
        remote = mc.open_study("memory://kept-study.zarr")
        first = fit(remote, FOUR, chain)
        again = fit(remote, FOUR, chain)
        assert [one.n_kept for one in again.passes_] == [4, 4]
        assert again.fingerprint() == first.fingerprint() == fit(own_study, FOUR, chain).fingerprint()
        assert slide_digest(remote, "slide_003") == slide_digest(own_study, "slide_003")
    finally:
        memory.rm("/kept-study.zarr", recursive=True)


def test_what_a_pass_looks_for_is_part_of_the_key(own_study: Study) -> None:
    def kept_slides(step: Step) -> list[int]:
        pipeline = Pipeline([step]).fit(mc.open_study(own_study.location), slides=FOUR, cache=True)
        expected = Pipeline([step]).fit(own_study, slides=FOUR, cache=False)
        assert pipeline.fingerprint() == expected.fingerprint()
        return [one.n_kept for one in pipeline.passes_]

    n_channels = own_study.axis(FOUR[0]).size
    low, high = np.zeros((2, n_channels)), np.ones((2, n_channels))
    low[1], high[1] = 1.0, 5.0
    for step in (
        mc.TissueMask(band=None, init=low, max_iter=1),
        mc.TissueMask(band=None, init=high, max_iter=1),
        PCA(2, solver="randomized", max_passes=2),
        PCA(2, solver="randomized", max_passes=2, seed=1),
        mc.TICMask(),
        mc.DeadPixelMask(n_mads=3.0),
    ):
        assert set(kept_slides(step)) == {0}, step
        assert set(kept_slides(step)) == {4}, step


def test_a_slide_more_reads_one_slide_also_behind_a_step_that_works_by_slide(
    own_study: Study, read_slides: set[str]
) -> None:
    def by_slide(k: int) -> Pipeline:
        return Pipeline([Log1p(), Standardize(by="slide"), mc.Sqrt(), PCA(2)])

    fit(own_study, FOUR, by_slide)
    read_slides.clear()
    five = fit(own_study, FIVE, by_slide)
    assert read_slides == {"slide_002"}
    assert [one.n_kept for one in five.passes_] == [4, 4]
    assert five.fingerprint() == fit(own_study, FIVE, by_slide, cache=False).fingerprint()


def test_all_code_that_makes_statistics_is_part_of_the_key() -> None:
    folder = Path(mc.preprocess.__path__[0])
    expected = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    assert set(source_files(folder)) == expected > {"moments.py", "masks/clustering.py"}


def test_chains_are_told_apart(slide: Any) -> None:
    def described(*steps: Step) -> str:
        return repr(description(Pipeline(list(steps)).fit(slide.X, slide.y).chain))

    chains = [
        described(Log1p()),
        described(mc.TICNormalize()),
        described(mc.TICNormalize(target=2.0)),
        described(Log1p(), SelectChannels(3)),
        described(Log1p(), SelectChannels(4)),
        described(Standardize()),
        described(Standardize(with_std=False)),
    ]
    assert len(set(chains)) == len(chains)
    assert described(Standardize()) == described(Standardize())


class Foreign(Step):
    """A step of another package, whose code no hash covers."""

    def kernel(self, block: Any, out: Any = None, tally: Any = None) -> Any:
        return block


def test_steps_of_other_packages_are_not_trusted(own_study: Study) -> None:
    pipeline = Pipeline([Foreign(), Standardize()])
    for _ in range(2):
        assert pipeline.fit(own_study, cache=True).passes_[0].n_kept == 0
    assert not Path(own_study.path, "_statistics").exists()


@dataclass(frozen=True)
class Other:
    """A dataclass that is not of the package."""

    n: int


def test_packing_is_the_identity() -> None:
    rng = np.random.default_rng(0)
    block = rng.random((9, 4))
    tally = Tally(ClassMoments.from_block(block, np.array(list("aabbabbba"))), np.array([3, 4]))
    back = unpack(pack(tally))
    assert list(back.statistic.classes) == ["a", "b"]
    for name, found in back.statistic.classes.items():
        expected = tally.statistic.classes[name]  # type: ignore[union-attr]
        assert (found.n, found.n_nonfinite) == (expected.n, expected.n_nonfinite)
        np.testing.assert_array_equal(found.m2, expected.m2)
    one = unpack(pack(ClassMoments.from_block(block, None)))
    assert list(one.classes) == [None]
    found = unpack(pack(Tally(Covariance.from_block(block), np.zeros(0, np.int64))))
    np.testing.assert_array_equal(found.statistic.scatter, Covariance.from_block(block).scatter)
    assert unpack(pack(Tally(None, np.zeros(2, np.int64)))).statistic is None
    assert unpack(pack((1, [2.5, "x"], {3: None}))) == (1, [2.5, "x"], {3: None})


def test_packing_names_only_statistics() -> None:
    for value in (Other(3), object(), {1, 2}):
        with pytest.raises(TypeError, match="cannot be packed"):
            pack(value)
    data = pack(Tally(None, np.zeros(0, np.int64))).replace(b"engine:Tally", b"engine:Popen")
    with pytest.raises(CorruptStore, match="no packed statistic"):
        unpack(data)


def test_requests_are_told_apart() -> None:
    found = {repr(description(r)) for r in (moments(), moments("label"), moments("patient"), covariance())}
    assert len(found) == 4
    with pytest.raises(TypeError, match="cannot be told"):
        description(Request("mine", lambda block, labels: Covariance.from_block(block)))
    with pytest.raises(TypeError, match="cannot be told"):
        description(replace(moments(), measure=time.sleep))
