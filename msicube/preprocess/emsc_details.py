"""What EMSC found in each spectrum: coefficients and residuals, of an array at once, of slides lazily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.chain import Chain
from msicube.preprocess.channels import Channels
from msicube.preprocess.emsc_kernel import LeastSquares
from msicube.preprocess.lazy import FEATURES, Mapped, TransformedStudy, transform_any

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Coefficients:
    """A stage that gives the coefficients of each spectrum and, last, the root mean square of its residual.

    Attributes
    ----------
    model
        The fit.
    weights
        ``(channel,)`` of the fit.
    """

    model: LeastSquares
    weights: NDArray[np.float64]

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map a block to ``(n, terms + 1)``."""
        found = np.empty((len(block), len(self.model.terms) + 1), block.dtype)
        heard = self.weights > 0
        with np.errstate(invalid="ignore", over="ignore"):
            for span, part in self.model.parts(block):
                coefficients, _ = self.model.coefficients(part)
                residual = (part - self.model.sum(coefficients)) * self.weights.astype(part.dtype)
                residual = np.where(heard, residual, 0)
                found[span, :-1] = coefficients
                square = np.einsum("ij,ij->i", residual, residual)
                found[span, -1] = np.sqrt(square / np.sum(self.weights**2))
        return found

    def for_slide(self, slide: str) -> Coefficients:
        """Return this stage: it treats all slides alike."""
        return self

    def reference_rms(self) -> float:
        """Return the weighted root mean square of the first term."""
        return float(np.sqrt(np.sum((self.weights * self.model.terms[0]) ** 2) / np.sum(self.weights**2)))


@dataclass(frozen=True, eq=False)
class EMSCDetails:
    """What EMSC found in the spectra of an array.

    Attributes
    ----------
    terms
        Names of the model's columns.
    coefficients
        ``(n, term)``, in units of the columns: that of the reference is the scaling ``b``.
    residual_rms
        ``(n,)``: the weighted root mean square of the residual, in the unit of the spectra, not divided by ``b``.
    """

    terms: tuple[str, ...]
    coefficients: NDArray[Any]
    residual_rms: NDArray[Any]

    def __getitem__(self, term: str) -> NDArray[Any]:
        """Return the coefficient of a term for each spectrum."""
        return self.coefficients[:, self.terms.index(term)]


class DetailedStudy(Mapping[str, "xr.Dataset"]):
    """Coefficients and residuals of each slide of a study, lazy as the features of a :class:`TransformedStudy` are."""

    def __init__(self, features: TransformedStudy, terms: Sequence[str]) -> None:
        self._features = features
        self._terms = terms

    @property
    def slides(self) -> list[str]:
        """Names of the slides, sorted."""
        return self._features.slides

    def __getitem__(self, slide: str) -> xr.Dataset:
        """Return ``coefficients`` (y, x, term) and ``residual_rms`` (y, x) of a slide."""
        return _split(self._features[slide], self._terms)

    def __iter__(self) -> Iterator[str]:
        return iter(self.slides)

    def __len__(self) -> int:
        return len(self.slides)


def details_of(X: Any, stage: Coefficients, terms: Sequence[str], channels: Channels) -> Any:
    """Return coefficients and residuals; see :meth:`msicube.preprocess.emsc.EMSC.details`."""
    n_features = len(terms) + 1
    chain = Chain(channels.n, n_features, (stage,))
    found = transform_any(X, Mapped("EMSC", chain, channels, Channels.numbered("term", n_features), dict))
    if isinstance(found, TransformedStudy):
        return DetailedStudy(found, terms)
    if isinstance(found, np.ndarray):
        return EMSCDetails(tuple(terms), found[:, :-1], found[:, -1])
    return _split(found, terms)


def _split(features: xr.Dataset, terms: Sequence[str]) -> xr.Dataset:
    """Return the features of the stage as two variables under their names."""
    values = features[FEATURES]
    coefficients = values.isel(feature=slice(0, -1)).rename(feature="term").assign_coords(term=list(terms))
    residual = values.isel(feature=-1).drop_vars("feature")
    coefficients.attrs = {"long_name": "EMSC coefficients"}
    residual.attrs = {"long_name": "root mean square of the EMSC residual"}
    dataset = features.drop_dims("feature")
    return dataset.assign(coefficients=coefficients, residual_rms=residual)
