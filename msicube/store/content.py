"""What tells the spectra of one slide from those of another, without reading them."""

from __future__ import annotations

import hashlib
import json

from msicube import schema
from msicube.store.draft import METADATA
from msicube.store.study import Study

#: Small variables that follow from the spectra, beside the mask and the axis: other spectra change them.
BY_PRODUCTS = ("acquired", "mean_spectrum", "max_spectrum")


def slide_digest(study: Study, slide: str) -> str:
    """Return the SHA-256 of a slide's content, for all that can be told from its small objects.

    It covers the slide's attributes (source, checksums, axis, conversion report) without its row of the samples table,
    the layout of the intensities and the length of each shard, and the stored bytes of the mask, the spectral axis and
    the mean and maximum spectrum. A copy of a study has the same digests; a slide that was converted again, binned anew
    or has lost a shard has another.
    """
    folder = study.location / slide
    sizes = folder.sizes()
    attrs = {key: value for key, value in study.slide_attrs[slide].items() if key != "sample"}
    digest = hashlib.sha256(json.dumps(attrs, sort_keys=True).encode())
    digest.update((folder / "intensity" / METADATA).get() or b"")
    shards = {path: size for path, size in sizes.items() if path.startswith("intensity/c/")}
    digest.update(json.dumps(shards).encode())
    for name in (schema.AXIS_NAME[study.modality], *BY_PRODUCTS):
        for path in sizes:
            if path.startswith(f"{name}/"):
                digest.update(path.encode())
                digest.update((folder / path).get() or b"")
    return digest.hexdigest()
