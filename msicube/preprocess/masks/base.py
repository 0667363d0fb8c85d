"""What every mask of spectra is: a step whose first feature is 1 for the pixels that it holds and 0 for the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.base import Step
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import is_dataset
from msicube.preprocess.lazy import FEATURES
from msicube.store import Study

if TYPE_CHECKING:
    import xarray as xr


class Mask(Step):
    """A rule that says of each spectrum whether a mask holds it.

    A subclass writes :meth:`decide`; what it learns, it learns as every step does. A mask is True for what its name
    says: a :class:`TissueMask` for tissue, a :class:`DeadPixelMask` for dead pixels. It is False for a spectrum with a
    NaN or an infinity, unless the subclass says otherwise, and where nothing was acquired.
    """

    #: Names of the numbers that the mask is decided on, where they are worth an image of their own.
    images: ClassVar[tuple[str, ...]] = ()
    #: Whether it holds a spectrum with a NaN or an infinity.
    holds_nonfinite: ClassVar[bool] = False
    #: Learned attributes that are stored with every mask that was made.
    recorded: ClassVar[tuple[str, ...]] = ()

    def decide(self, block: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[Any] | None]:
        """Return which spectra of a block the mask holds, and ``(n, images)`` numbers, or None where it has none."""
        raise NotImplementedError

    def plan(self, n_channels: int) -> int:
        """Return the number of features: the mask and its images."""
        return 1 + len(self.images)

    def channels_out(self) -> Channels:
        """Return the mask and its images."""
        return Channels.numbered("mask", 1 + len(self.images))

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Return the mask of a block as 0 and 1, and the images beside it."""
        held, numbers = self.decide(block)
        features = np.empty((len(block), 1 + len(self.images)), block.dtype)
        features[:, 0] = held
        if numbers is not None:
            with np.errstate(over="ignore"):
                features[:, 1:] = numbers
        return features

    def predict(self, X: Any) -> Any:
        """Say which spectra the mask holds.

        Parameters
        ----------
        X
            An ``(n, channels)`` array, the dataset of a slide, or a study.

        Returns
        -------
        ndarray, xarray.DataArray or MasksOfStudy
            ``(n,)`` bool; a lazy ``(y, x)`` bool, False where not acquired; or a mapping of slide to these.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        """
        if isinstance(X, Study):
            return MasksOfStudy(self, X)
        features = self.transform(X)
        if not is_dataset(X):
            return features[:, 0] > 0
        return (features[FEATURES].isel(feature=0) > 0).drop_vars("feature").rename(type(self).__name__)

    def fit_predict(self, X: Any, y: Any = None, **options: Any) -> Any:
        """Fit, and say which of the same spectra the mask holds; ``options`` are those of ``fit``."""
        return self.fit(X, y, **options).predict(X)


class MasksOfStudy(Mapping[str, "xr.DataArray"]):
    """The mask of each slide of a study; nothing is read until it is computed."""

    def __init__(self, mask: Mask, study: Study) -> None:
        self._features = mask.transform(study)
        self._name = type(mask).__name__

    def __getitem__(self, slide: str) -> xr.DataArray:
        """Return the lazy ``(y, x)`` mask of a slide."""
        feature = self._features[slide][FEATURES].isel(feature=0)
        return (feature > 0).drop_vars("feature").rename(self._name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)


def finite(block: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which spectra of a block hold neither a NaN nor an infinity."""
    held: NDArray[np.bool_] = np.isfinite(block).all(axis=1)
    return held
