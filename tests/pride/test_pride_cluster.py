"""Slides as tasks of a real scheduler with two worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from archive_server import ACCESSION, Answer, Archive, ask
from test_convert_project import hashes

from msicube.pride import convert_project

distributed = pytest.importorskip("distributed")


def test_workers_give_the_same_bytes_within_the_connections(
    archive: Archive, ragged_archive: Archive, tmp_path: Path
) -> None:
    def slow(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        answer.delay = 0.01
        return answer

    archive.fault = slow
    archive.checksums = {"slide_004.ibd": ("slide_004.ibd", "1" * 32, len(archive.files["slide_004.ibd"]))}
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        report = convert_project(
            ACCESSION,
            tmp_path / "a.zarr",
            archive=ask(archive),
            connections=2,
            scheduler=client,
            stream=True,
            limit=6,
        )
        assert [row.slide for row in report.failed] == ["slide_004"], report.failed
        assert archive.most_connections == 2, "over all workers"
        archive.checksums, archive.fault = {}, None
        report = convert_project(
            ACCESSION, tmp_path / "a.zarr", archive=ask(archive), scheduler=client, limit=6
        )
        assert [row.status for row in report.rows].count("converted") == 1
        report = convert_project(
            ACCESSION,
            tmp_path / "c.zarr",
            archive=ask(ragged_archive),
            scheduler=client,
            mz_axis="ppm:300",
            stream=True,
            two_passes=True,
        )
        assert not report.failed
    convert_project(ACCESSION, tmp_path / "b.zarr", archive=ask(archive), limit=6)
    assert hashes(tmp_path / "a.zarr") == hashes(tmp_path / "b.zarr")
    convert_project(ACCESSION, tmp_path / "d.zarr", archive=ask(ragged_archive), mz_axis="ppm:300")
    assert hashes(tmp_path / "c.zarr") == hashes(tmp_path / "d.zarr")
