"""Tissue and paraffin in infrared images: two clusters of spectra in a band."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msicube.errors import UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.base import learn_counts
from msicube.preprocess.channels import Channels, describe
from msicube.preprocess.masks.base import Mask, finite
from msicube.preprocess.masks.clustering import (
    Clusterer,
    ClusterSums,
    Sample,
    Sampler,
    first_centres,
    second_is_nearer,
)
from msicube.preprocess.moments import FloatArray
from msicube.preprocess.request import Request

#: Distinct spectra on which the clustering begins.
SAMPLE_SIZE = 4096


class BandMask(Mask):
    """Spectra whose absorbance in a band is the higher of two kinds, by k-means with two clusters.

    The iterations of Lloyd are exact: each is one pass over all spectra of the fit. They begin from the best of
    ``n_init`` clusterings of a random sample, which is why few passes are needed. Of the two clusters the mask is the
    one whose centre has the larger mean in the band, whatever their order.

    Parameters
    ----------
    band
        Lowest and highest wavenumber, in cm^-1, in either order; only these channels are read. None for all channels.
    n_init
        Clusterings of the sample, of which the best is taken.
    max_iter
        Iterations over all spectra at most.
    tol
        The iterations end when the squared shift of the centres is at most this fraction of the mean squared distance
        of a spectrum from its centre. 0 goes on until no spectrum changes its cluster.
    init
        ``(2, channels of the band)`` centres to begin with, instead of those of the sample.
    seed
        Of the sample and of the clusterings.
    wavenumbers
        Of the channels, where the spectra are a plain array.

    Attributes
    ----------
    centres_ : (2, n_band) float64
        Of the other spectra, and of those of the mask.
    columns_ : (n_band,) int
        The channels of the band.
    n_clusters_ : int
        2, or 1 where all spectra are alike: then the mask holds all of them.
    separation_ : float
        Distance of the centres, divided by the root of the mean squared distance of a spectrum from its centre. Below
        about 2 the two kinds run into each other, and the mask should be looked at.
    n_iter_ : int
        Passes over all spectra.
    n_spectra_, n_nonfinite_ : int
        Spectra that were fitted on, and those that were left out because of a NaN or an infinity. The mask is False
        there.
    """

    learned_arrays: ClassVar = {"centres_": ("cluster", "band"), "columns_": ("band",)}
    learned_values = ("n_clusters_", "separation_", "n_iter_", "n_spectra_", "n_nonfinite_", "n_irregular_")
    recorded = ("centres_", "n_clusters_", "separation_", "n_iter_", "n_spectra_", "n_nonfinite_")

    centres_: FloatArray
    columns_: NDArray[np.intp]
    n_clusters_: int
    separation_: float
    n_iter_: int
    _last: FloatArray

    def __init__(
        self,
        *,
        band: tuple[float, float] | None = None,
        n_init: int = 4,
        max_iter: int = 100,
        tol: float = 1e-6,
        init: ArrayLike | None = None,
        seed: int = 0,
        wavenumbers: ArrayLike | None = None,
    ) -> None:
        self.band = band
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.init = init
        self.seed = seed
        self.wavenumbers = wavenumbers

    def plan(self, n_channels: int) -> int:
        """Check the parameters."""
        name = type(self).__name__
        if self.n_init < 1 or self.max_iter < 1 or not self.tol >= 0:
            raise UsageError(
                f"{name}(n_init={self.n_init}, max_iter={self.max_iter}, tol={self.tol}): expected at least one "
                f"clustering and one iteration, and a tolerance of at least 0"
            )
        if self.wavenumbers is not None and np.shape(self.wavenumbers) != (n_channels,):
            raise UsageError(
                f"{name}(wavenumbers of shape {np.shape(self.wavenumbers)}): the spectra have {n_channels} channels"
            )
        self.n_iter_ = 0
        return super().plan(n_channels)

    def prepare(self, channels: Channels) -> None:
        """Find the channels of the band."""
        super().prepare(channels)
        self.columns_ = self._band_columns(channels)
        if self.init is not None and np.shape(self.init) != (2, len(self.columns_)):
            raise UsageError(
                f"{type(self).__name__}(init of shape {np.shape(self.init)}): expected two centres of the band's "
                f"{len(self.columns_)} channels, one a row"
            )

    def reads(self) -> Affine | None:
        """Return the choice of the band's channels."""
        return None if self.band is None else Affine.selection(self.columns_)

    def request(self) -> Request:
        """Ask for a sample, or for the sums about the given centres."""
        if self.init is None:
            return Request("sample", Sampler(SAMPLE_SIZE, self.seed))
        return self._iterate(np.array(self.init, np.float64))

    def learn(self, statistic: Sample | ClusterSums) -> Request | None:
        """Begin from the sample, or move the centres and ask for another pass while they move."""
        learn_counts(self, statistic)
        if isinstance(statistic, ClusterSums):
            return self._move(statistic)
        centres = first_centres(statistic, n_init=self.n_init, seed=self.seed)
        if centres is None:
            self._alike(statistic.rows[0].astype(np.float64))
            return None
        return self._iterate(centres)

    def decide(self, block: NDArray[Any]) -> tuple[NDArray[np.bool_], None]:
        """Return which spectra, given in the band, lie nearer to the centre of the mask."""
        held = finite(block)
        if self.n_clusters_ == 2:
            good = (block if held.all() else block[held]).astype(np.float64, copy=False)
            held[held] = second_is_nearer(good, self.centres_)
        return held, None

    def _band_columns(self, channels: Channels) -> NDArray[np.intp]:
        if self.band is None:
            return np.arange(channels.n)
        values = channels.values if channels.on_axis else self.wavenumbers
        name, (low, high) = type(self).__name__, sorted(self.band)
        if values is None:
            raise UsageError(
                f"{name}(band=({low:g}, {high:g})): the columns of an array have no wavenumbers, give them with "
                f"wavenumbers=, or take all columns with band=None"
            )
        columns = np.flatnonzero((np.asarray(values) >= low) & (np.asarray(values) <= high))
        if not len(columns):
            raise UsageError(
                f"{name}(band=({low:g}, {high:g})): no channel lies in the band, the spectra have "
                f"{describe(Channels(channels.kind, np.asarray(values, np.float64)))}: choose another band"
            )
        return columns

    def _iterate(self, centres: FloatArray) -> Request:
        """Ask for the sums about centres."""
        self._last = centres
        return Request(f"clusters {self.n_iter_ + 1}", Clusterer(centres))

    def _move(self, found: ClusterSums) -> Request | None:
        """Move the centres into the middle of their spectra."""
        self.n_iter_ += 1
        centres = found.centres()
        if centres is None:
            self._alike(found.sums.sum(axis=0) / max(found.n, 1))
            return None
        spread = found.inertia / found.n
        shift = float(((centres - self._last) ** 2).sum())
        if shift > self.tol * spread and self.n_iter_ < self.max_iter:
            return self._iterate(centres)
        self.centres_ = centres[np.argsort(centres.mean(axis=1), kind="stable")]
        self.n_clusters_ = 2
        distance = float(np.linalg.norm(centres[1] - centres[0]))
        self.separation_ = (
            distance / float(np.sqrt(spread)) if spread > 0 else float(np.finfo(np.float64).max)
        )
        return None

    def _alike(self, centre: FloatArray) -> None:
        """Take note that there is one kind of spectra only."""
        self.centres_ = np.stack([centre, centre])
        self.n_clusters_, self.separation_ = 1, 0.0


class TissueMask(BandMask):
    """Tissue in an infrared image: the spectra that absorb more in the amide I and II bands, 1500 to 1700 cm^-1.

    The first of the two clusterings of CaReNet (arXiv 2310.15094); the second is :class:`ParaffinMask`. See
    :class:`BandMask` for the rule, the other parameters and the attributes.

    Parameters
    ----------
    band, n_init, max_iter, tol, init, seed, wavenumbers
        As for :class:`BandMask`.

    Examples
    --------
    >>> import numpy as np
    >>> import msicube as mc
    >>> wavenumbers = np.linspace(900.0, 1800.0, 50)
    >>> protein = np.exp(-(((wavenumbers - 1650) / 30) ** 2))
    >>> X = np.vstack([0.01 + 0 * protein, 0.02 + 0 * protein, 0.5 * protein, 0.6 * protein])
    >>> mc.TissueMask(wavenumbers=wavenumbers).fit_predict(X)
    array([False, False,  True,  True])
    """

    def __init__(
        self,
        *,
        band: tuple[float, float] | None = (1500.0, 1700.0),
        n_init: int = 4,
        max_iter: int = 100,
        tol: float = 1e-6,
        init: ArrayLike | None = None,
        seed: int = 0,
        wavenumbers: ArrayLike | None = None,
    ) -> None:
        super().__init__(
            band=band,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            init=init,
            seed=seed,
            wavenumbers=wavenumbers,
        )


class ParaffinMask(BandMask):
    """Paraffin in an infrared image: the spectra that absorb more in the CH bending band, 1450 to 1480 cm^-1.

    Tissue absorbs there as well, so it has to be left out: with ``where="~tissue"``, once there is a mask ``tissue``.
    The paper (CaReNet, arXiv 2310.15094) keeps the pixels of tissue and sets them to zero. ``n_zeros`` is how to get
    just that: so many spectra of zeros take part in the clustering besides those given. See :class:`BandMask` for the
    rule, the other parameters and the attributes.

    Parameters
    ----------
    band, n_init, max_iter, tol, init, seed, wavenumbers
        As for :class:`BandMask`.
    n_zeros
        Spectra of zeros that take part in the clustering: as many as there are pixels of tissue, for the paper's
        recipe.
    """

    def __init__(
        self,
        *,
        band: tuple[float, float] | None = (1450.0, 1480.0),
        n_init: int = 4,
        max_iter: int = 100,
        tol: float = 1e-6,
        init: ArrayLike | None = None,
        seed: int = 0,
        wavenumbers: ArrayLike | None = None,
        n_zeros: int = 0,
    ) -> None:
        super().__init__(
            band=band,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            init=init,
            seed=seed,
            wavenumbers=wavenumbers,
        )
        self.n_zeros = n_zeros

    def learn(self, statistic: Sample | ClusterSums) -> Request | None:
        """Add the zeros, and learn from all."""
        if self.n_zeros > 0:
            nothing = np.zeros((1, len(self.columns_)))
            if isinstance(statistic, Sample):
                zeros = Sampler(statistic.size, self.seed)(nothing.astype(statistic.rows.dtype))
                extra: Any = Sample(
                    self.n_zeros, zeros.keys, zeros.rows, zeros.counts * self.n_zeros, zeros.size
                )
            else:
                extra = Clusterer(self._last)(nothing, counts=np.array([self.n_zeros]))
            statistic = statistic.merge(extra)
        request = super().learn(statistic)
        self.n_spectra_ -= self.n_zeros
        return request
