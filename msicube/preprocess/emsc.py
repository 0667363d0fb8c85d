"""Extended multiplicative signal correction."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.chain import Chain
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import Where
from msicube.preprocess.emsc_arguments import check_matrix, checked_spectra, fit_weights, spectral_axis
from msicube.preprocess.emsc_details import Coefficients, details_of
from msicube.preprocess.emsc_interferents import mean_and_components, require_spectra
from msicube.preprocess.emsc_kernel import LeastSquares, Scaling, Subtraction
from msicube.preprocess.emsc_model import FloatArray, Terms, solve
from msicube.preprocess.emsc_statistics import ResidualSums, WithinGroups, principal_components
from msicube.preprocess.lazy import Mapped, transform_any
from msicube.preprocess.moments import ClassMoments, Covariance
from msicube.preprocess.request import Request, covariance, moments


class EMSC(Step):
    """Extended multiplicative signal correction of absorbance spectra.

    Models each spectrum as ``b * reference + constituents @ a + sum_k c_k * v**k + interferents @ d + e`` on the scaled
    wavenumber ``v`` in [-1, 1], by weighted least squares, and returns it without polynomial and interferents, divided
    by ``b``: ``reference + (constituents @ a + e) / b``.

    Parameters
    ----------
    wavenumbers
        ``(n_channels,)``, cm^-1, for spectra that do not bring their axis along: arrays. Rising or falling.
    degree
        Of the polynomial; None for no polynomial, not even a constant.
    reference
        ``(n_channels,)``; or ``"mean"`` or None, the mean of the fitted spectra; or ``"good"``, the mean of the
        ``good_share`` of them that a first EMSC against the mean leaves the least relative residual of, ``rms(e) / (b *
        rms(reference))``, among those with a positive ``b``.
    good_share
        See ``reference``. The threshold is met to within 16 % of the residual.
    constituents
        ``(n, n_channels)``: spectra that are modelled and kept, as for an analyte.
    interferents
        ``(n, n_channels)``: spectra that are modelled and removed. Or the name of a mask of the study or dataset that
        is fitted on, such as ``"paraffin"``, or an expression of masks: the mean and the principal components of its
        spectra, in the slides of the fit, whatever the fit's own ``where``. ``InterferentModel`` learns the same by
        itself.
    n_interferents
        How many principal components beside the mean, where ``interferents`` names a mask.
    replicates
        Column of the study's samples table that names the group of each slide, such as ``"patient"``, within which
        spectra differ by nothing of interest (for an array or a dataset the groups are the ``y`` of ``fit``). The
        leading directions of the differences within groups, after a first EMSC, become further interferents.
    n_replicate_components
        How many directions.
    weights
        ``(n_channels,)``, not negative. They multiply the residuals before these are squared; only ratios matter.
    excluded
        Regions ``[(from, to), ...]`` of the axis, both ends inside, whose weight is 0. They are corrected all the same.
    dtype
        ``"float32"``: compute in the type of the spectra. ``"float64"``: compute float32 spectra in float64 as well;
        the result is rounded to their type.

    Attributes
    ----------
    reference_ : (n_channels,) float64, absorbance
    model_ : (n_channels, n_terms) float64
        The columns of the fit, in the order of ``term_names_``.
    term_names_ : list of str
        ``reference``, ``constituent 1``, ..., ``constant``, ``v``, ``v^2``, ..., ``interferent 1``, ..., ``replicate
        1``, ...
    pseudo_inverse_ : (n_terms, n_channels) float64
        ``spectra @ pseudo_inverse_.T`` are the coefficients. Zero for a term that was left out.
    weights_ : (n_channels,) float64
        As used: 0 where excluded, the largest 1.
    rank_ : int
        Terms that the weights support; a warning names the others, and ``unsupported_`` lists them.
    n_good_ : int or None
        Spectra in a reference ``"good"``.
    n_spectra_, n_nonfinite_ : int or None
        Spectra of the first pass, and those it left out because of a NaN or an infinity; None where nothing was learned
        from spectra.
    n_irregular_ : int or None
        Spectra whose ``b`` is not positive.

    Warns
    -----
    UnsupportedTermWarning
        The weights leave a column too little to be fitted by, or it is a combination of earlier ones. Its coefficient
        is 0; without that, noise would be multiplied by a thousand and more where the weights are zero.

    Notes
    -----
    A spectrum of zeros stays zero. One whose ``b`` is no larger than rounding becomes NaN; one with a negative ``b`` is
    corrected like any other, which turns it upside down. A NaN or an infinity in a channel of weight 0 stays there and
    does no harm; elsewhere it makes the whole spectrum NaN. A channel that is constant is a channel like any other.

    Fitting takes one pass for the mean, another for interferents of a mask, another for good spectra, another for
    replicates, and none for a given reference without these.

    References
    ----------
    H. Martens and E. Stark, J. Pharm. Biomed. Anal. 9 (1991) 625; N. K. Afseth and A. Kohler, Chemom. Intell. Lab.
    Syst. 117 (2012) 92. Scaling and residual as a measure of quality: V. Tafintseva et al., J. Biophotonics 13 (2020)
    e201960112. Replicates: A. Kohler et al., Appl. Spectrosc. 63 (2009) 296. Constituents and weights: J. H. Solheim et
    al., Molecules 27 (2022) 1900.
    """

    learned_arrays: ClassVar = {
        "reference_": ("channel",),
        "model_": ("channel", "term"),
        "pseudo_inverse_": ("term", "channel"),
        "weights_": ("channel",),
    }
    learned_values = (
        "term_names_",
        "rank_",
        "unsupported_",
        "n_good_",
        "n_spectra_",
        "n_nonfinite_",
        "n_irregular_",
    )

    reference_: FloatArray
    model_: FloatArray
    term_names_: list[str]
    pseudo_inverse_: FloatArray
    weights_: FloatArray
    rank_: int
    unsupported_: list[str]
    n_good_: int | None
    _interferents: FloatArray | None
    n_spectra_: int | None
    n_nonfinite_: int | None

    def __init__(
        self,
        *,
        wavenumbers: Any = None,
        degree: int | None = 2,
        reference: Any = None,
        good_share: float = 0.5,
        constituents: Any = None,
        interferents: Any = None,
        n_interferents: int = 3,
        replicates: str | None = None,
        n_replicate_components: int = 3,
        weights: Any = None,
        excluded: Any = None,
        dtype: str = "float32",
    ) -> None:
        self.wavenumbers = wavenumbers
        self.degree = degree
        self.reference = reference
        self.good_share = good_share
        self.constituents = constituents
        self.interferents = interferents
        self.n_interferents = n_interferents
        self.replicates = replicates
        self.n_replicate_components = n_replicate_components
        self.weights = weights
        self.excluded = excluded
        self.dtype = dtype

    def plan(self, n_channels: int) -> int:
        """Check the parameters that have to do with the number of channels, and those that stand for themselves."""
        if self.degree is not None and (not isinstance(self.degree, int | np.integer) or self.degree < 0):
            raise UsageError(
                f"EMSC(degree={self.degree!r}): a degree of 0 or more, or None for no polynomial"
            )
        if isinstance(self.reference, str) and self.reference not in ("mean", "good"):
            raise UsageError(f"EMSC(reference={self.reference!r}): 'mean', 'good' or a spectrum")
        if not 0 < self.good_share <= 1:
            raise UsageError(
                f"EMSC(good_share={self.good_share}): a share of the spectra, above 0 and at most 1"
            )
        if self.dtype not in ("float32", "float64"):
            raise UsageError(f"EMSC(dtype={self.dtype!r}): 'float32' or 'float64'")
        if self.replicates is not None:
            check_matrix(n_channels, "EMSC(replicates=...)")
            if not 1 <= self.n_replicate_components <= n_channels:
                raise UsageError(
                    f"EMSC(n_replicate_components={self.n_replicate_components}): between 1 and {n_channels} channels"
                )
        if isinstance(self.interferents, str):
            check_matrix(n_channels, "EMSC(interferents=...)")
            if not 0 <= self.n_interferents < n_channels:
                raise UsageError(
                    f"EMSC(n_interferents={self.n_interferents}): 0 or more, and fewer than {n_channels} channels"
                )
        self._given("reference", n_channels)
        self._given("constituents", n_channels)
        self._given("interferents", n_channels)
        return n_channels

    def prepare(self, channels: Channels) -> None:
        """Begin a fit: read the axis, and solve the model where all of it is given."""
        super().prepare(channels)
        axis = spectral_axis(
            self.wavenumbers, channels, needed=bool(self.degree) or self.excluded is not None
        )
        self.weights_ = fit_weights(self.weights, self.excluded, axis, channels.n)
        self._polynomial = Terms.polynomial(axis, self.degree, channels.n)
        self.n_good_ = self.n_spectra_ = self.n_nonfinite_ = None
        named = isinstance(self.interferents, str)
        self._interferents = None if named else self._given("interferents", channels.n)
        given = self._given("reference", channels.n)
        if len(given):
            self.reference_ = given[0]
            if not named:
                self._build()
                if self.replicates is None:
                    self._solved.warn()

    @property
    def classes_by(self) -> str | None:
        """The column that names the replicates."""
        return self.replicates

    def request(self) -> Request | None:
        """Ask for the mean of the spectra, for the differences between replicates, or for nothing."""
        if self.reference is None or isinstance(self.reference, str):
            return moments(self.replicates)
        if isinstance(self.interferents, str):
            return covariance(where=self.interferents)
        return None if self.replicates is None else self._within_groups()

    def learn(self, statistic: Any) -> Request | None:
        """Learn reference, interferents, good spectra and replicates, in this order; return what is needed next."""
        if isinstance(statistic, Covariance):
            self._learn_interferents(statistic)
        elif self.n_spectra_ is None:
            learn_counts(self, statistic)
        if isinstance(statistic, ClassMoments):
            self.reference_ = statistic.total().mean
        elif isinstance(statistic, ResidualSums):
            self.reference_, self.n_good_ = statistic.best(self.good_share)
        if self._interferents is None:
            return covariance(where=self.interferents)
        if isinstance(statistic, WithinGroups):
            self._learn_replicates(statistic)
        else:
            self._build()
            if isinstance(self.reference, str) and self.reference == "good" and self.n_good_ is None:
                return self._good_spectra()
            if self.replicates is not None:
                return self._within_groups()
        self._solved.warn()
        return None

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Correct a block."""
        return self._scaling.kernel(block, out, tally)

    @property
    def correction(self) -> Scaling:
        """What corrects a block: the fitted model, and the terms that it takes out."""
        self.check_fitted()
        return self._scaling

    def details(self, X: Any, *, where: Where = None) -> Any:
        """Return the coefficients of the model and the size of the residual for each spectrum.

        Parameters
        ----------
        X, where
            A study, the dataset of a slide, or an ``(n, channels)`` array, and which of its spectra, as for
            ``transform``.

        Returns
        -------
        EMSCDetails, xarray.Dataset or TransformedStudy
            Of an array, a record with ``coefficients`` (n, term) and ``residual_rms`` (n,). Of a dataset, a new one
            with the lazy variables ``coefficients`` (y, x, term) and ``residual_rms`` (y, x), 0 where not acquired. Of
            a study, a mapping of slide name to such a dataset. The residual is not divided by ``b``.
        """
        self.check_fitted()
        return details_of(X, [self], self.channels_in, where)

    def finding(self, *, spectra: bool = False) -> Coefficients:
        """Return the stage that gives coefficients and the size of residuals, and the residual spectra if asked to."""
        return Coefficients(self._least_squares(np.ones(len(self.term_names_), bool)), self.weights_, spectra)

    def residuals(self, X: Any) -> Any:
        """Return ``e``, what the model leaves of each spectrum, in the form in which ``transform`` returns it."""
        self.check_fitted()
        stage = Subtraction(self._least_squares(np.ones(len(self.term_names_), bool)))
        chain = Chain(self.n_features_in_, self.n_features_in_, (stage,))
        return transform_any(
            X, Mapped("EMSC", chain, self.channels_in, self.channels_out(), self._provenance)
        )

    def restore(self, channels: Channels, learned: Mapping[str, Any]) -> None:
        """Set what was learned in an earlier fit; nothing is solved again."""
        super().prepare(channels)
        self.__dict__.update(learned)
        self._scaling = Scaling(self._least_squares(self._removed()))
        self.seal()

    def _build(self, replicates: FloatArray | None = None) -> None:
        """Solve the model for what was learned so far, and with the spectra that tell replicates apart."""
        assert self._interferents is not None
        reference = self.reference_
        n_channels = len(reference)
        terms = Terms(("reference",), reference[None])
        terms += Terms.numbered("constituent", self._given("constituents", n_channels))
        terms += self._polynomial
        terms += Terms.numbered("interferent", self._interferents)
        if replicates is not None:
            terms += Terms.numbered("replicate", replicates)
        self._solved = solved = solve(terms, self.weights_)
        self.model_ = np.ascontiguousarray(terms.spectra.T)
        self.pseudo_inverse_ = solved.inverse
        self.term_names_ = list(terms.names)
        self.rank_ = solved.rank
        self.unsupported_ = [*solved.combined, *solved.hidden]
        self._scaling = Scaling(self._least_squares(self._removed()))

    def _learn_replicates(self, statistic: WithinGroups) -> None:
        """Take the leading directions of the differences between replicates into the model."""
        free = statistic.degrees_of_freedom()
        if free < self.n_replicate_components:
            raise UsageError(
                f"EMSC(replicates={self.replicates!r}, n_replicate_components={self.n_replicate_components}): "
                f"{statistic.n} spectra in {len(statistic.groups.classes)} groups differ in {free} ways at most, fit "
                f"on more spectra of a group"
            )
        _, components = principal_components(statistic.scatter(), self.n_replicate_components)
        self._build(components)

    def _learn_interferents(self, statistic: Covariance) -> None:
        """Take the mean and the leading components of a mask's spectra as interferents."""
        what = f"EMSC(interferents={self.interferents!r}, n_interferents={self.n_interferents})"
        require_spectra(statistic, self.n_interferents, what)
        self._interferents, _ = mean_and_components(statistic, self.n_interferents)

    def _good_spectra(self) -> Request:
        """Ask for the mean of the spectra that the model so far fits well."""
        measure = partial(ResidualSums.from_block, coefficients=self.finding())
        return Request("sums by EMSC residual", measure)

    def _within_groups(self) -> Request:
        """Ask for the differences between replicates, corrected by the model so far."""
        # Also asked for while a step before this one is fitted, to see whether they can share a pass.
        correction: Any = self.__dict__.get("_scaling")
        measure = partial(WithinGroups.from_block, correction=correction)
        return Request("covariance within groups", measure, self.replicates, quadratic=True)

    def _given(self, name: str, n_channels: int) -> FloatArray:
        """Return the spectra in a parameter, ``(n, channel)``; none where a name or None stands for them."""
        given = getattr(self, name)
        return checked_spectra(None if isinstance(given, str) else given, n_channels, what=f"EMSC({name})")

    def _removed(self) -> NDArray[np.bool_]:
        """Return which terms are taken out of the spectra: all but reference and constituents."""
        return np.array([not name.startswith(("reference", "constituent")) for name in self.term_names_])

    def _least_squares(self, chosen: NDArray[np.bool_]) -> LeastSquares:
        """Return the fit, with only the chosen terms in what it stands for."""
        terms = np.where(chosen[:, None], self.model_.T, 0)
        return LeastSquares(self.pseudo_inverse_, terms, precise=self.dtype == "float64")
