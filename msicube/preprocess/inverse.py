"""Back from features to spectra, through steps that can be undone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.chain import Chain, Stage, working_dtype
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import DIMS, VARIABLE, as_spectra, dataset_mask, is_dataset
from msicube.preprocess.lazy import FEATURES, map_pixels

if TYPE_CHECKING:
    import xarray as xr

    from msicube.preprocess.base import Step


@dataclass(frozen=True, eq=False)
class Inverse:
    """A fitted map from features back to spectra.

    Attributes
    ----------
    chain
        The map.
    channels
        What the columns of the spectra stand for.
    """

    chain: Chain
    channels: Channels

    @classmethod
    def of(cls, steps: Sequence[Step], channels: Channels) -> Inverse:
        """Undo fitted steps, the last one first.

        Raises
        ------
        UsageError
            A step loses what it would take.
        """
        stages: list[Stage] = []
        for step in reversed(steps):
            stage = step.inverse_stage()
            if stage is None:
                raise UsageError(
                    f"{type(step).__name__} cannot be undone: call inverse_transform of the steps behind it, which can"
                )
            if stages and isinstance(stages[-1], Affine) and isinstance(stage, Affine):
                stages[-1] = stages[-1].then(stage)
            else:
                stages.append(stage)
        return cls(Chain(steps[-1].n_features_out_, channels.n, tuple(stages)), channels)

    def __call__(self, X: Any) -> Any:
        """Map features; see :meth:`msicube.preprocess.transformer.Transformer.inverse_transform`."""
        if is_dataset(X):
            return self.dataset(X)
        if isinstance(X, Mapping):
            return RestoredStudy(X, self)
        return self.chain(as_spectra(X))

    def dataset(self, dataset: xr.Dataset) -> xr.Dataset:
        """Map the features of a slide, lazily."""
        import dask.array as da
        import xarray as xr

        dims = (*DIMS[:2], "feature")
        if FEATURES not in dataset or set(dataset[FEATURES].dims) != set(dims):
            raise UsageError(
                f"the dataset needs a variable '{FEATURES}' of dims {dims}, as transform makes it, it has "
                f"{ {str(name): variable.dims for name, variable in dataset.data_vars.items()} }"
            )
        features = da.asarray(dataset[FEATURES].transpose(*dims).data).rechunk({2: -1})
        mask = da.from_array(dataset_mask(dataset), chunks=features.chunks[:2])
        dtype = working_dtype(features.dtype)
        spectra = da.map_blocks(
            _map_chunk,
            features,
            mask[..., None],
            chain=self.chain,
            chunks=(*features.chunks[:2], (self.channels.n,)),
            dtype=dtype,
            meta=np.empty((0, 0, 0), dtype),
        )
        coords = {name: dataset[name].variable for name in ("y", "x") if name in dataset.coords}
        if self.channels.on_axis:
            coords[self.channels.kind] = xr.Variable("channel", self.channels.values)
        variables = {VARIABLE: xr.Variable(DIMS, spectra)}
        if "acquired" in dataset:
            variables["acquired"] = dataset["acquired"].variable
        return xr.Dataset(variables, coords, dict(dataset.attrs))


class RestoredStudy(Mapping[str, "xr.Dataset"]):
    """The spectra of each slide, made from features; nothing is read until they are computed.

    Attributes
    ----------
    features
        Slide to dataset, as ``transform`` of a study gives them.
    """

    def __init__(self, features: Mapping[str, xr.Dataset], inverse: Inverse) -> None:
        self.features = features
        self._inverse = inverse

    def __getitem__(self, slide: str) -> xr.Dataset:
        """Return the spectra of a slide: ``intensity`` (y, x, channel), lazy, 0 where not acquired."""
        return self._inverse.dataset(self.features[slide])

    def __iter__(self) -> Iterator[str]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)


def _map_chunk(values: NDArray[Any], mask: NDArray[np.bool_], *, chain: Chain) -> NDArray[Any]:
    """Map one chunk of features; ``mask`` is ``(y, x, 1)``."""
    return map_pixels(np.asarray(values), np.asarray(mask)[..., 0], chain)
