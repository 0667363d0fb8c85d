"""Principal components."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from msicube.bytesize import format_bytes
from msicube.errors import MemoryLimitError, UsageError
from msicube.preprocess._blas import one_blas_thread
from msicube.preprocess.affine import Affine
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.channels import Channels
from msicube.preprocess.moments import Covariance, FloatArray
from msicube.preprocess.request import Request, covariance
from msicube.preprocess.subspace import Search, Sketch, Sketcher, random_directions

#: The widest covariance that is gathered; each task holds three of this size, in float64.
MAX_CHANNELS = 8192
#: Vectors that a pass multiplies besides one for each component: they speed the last components up.
OVERSAMPLING = 10
SOLVERS = ("auto", "covariance", "randomized")


class PCA(Step):
    """Project spectra onto the directions of largest variance.

    Two ways lead there. ``"covariance"`` gathers the covariance of all spectra in one pass and decomposes it: exact,
    the same numbers as scikit-learn's ``PCA`` with a full SVD. Its memory grows with the square of the channels, so for
    wide axes ``"randomized"`` gathers only the covariance times a few vectors, and passes over the data again until the
    components stand still; see :mod:`msicube.preprocess.subspace`. Both give the same bits on any scheduler and number
    of workers.

    Parameters
    ----------
    n_components
        How many; at most the number of channels and of spectra.
    whiten
        Whether to scale each component to unit variance.
    solver
        ``"covariance"``, ``"randomized"``, or ``"auto"``: the covariance for up to 8192 channels (512 MiB), else the
        other. ``solver_`` and ``solver_reason_`` say what was taken and why.
    dtype
        Type that spectra are multiplied in; sums over blocks are always float64. None stands for the spectra's own:
        float32 spectra then give components to about 1e-7. ``"float64"`` gives 1e-13 at twice the time.
    tol
        Of ``"randomized"``: it stops when no component's residual ``|C v - variance v|`` exceeds this fraction of the
        largest variance.
    max_passes
        Of ``"randomized"``: passes over the data at most.
    seed
        Of ``"randomized"``: the directions it begins with.

    Attributes
    ----------
    components_ : (n_components, n_channels) float64
        Unit vectors, by falling variance. The sign is such that the loading of largest absolute value is positive, as
        in scikit-learn's ``svd_flip(..., u_based_decision=False)``.
    mean_ : (n_channels,) float64
    explained_variance_ : (n_components,) float64
        With ``n - 1`` in the denominator.
    explained_variance_ratio_ : (n_components,) float64
        Of the variance of all channels; 0 where they do not vary.
    captured_variance_ : float
        The sum of ``explained_variance_ratio_``: what of the variance the components hold.
    total_variance_ : float
        Of all channels.
    solver_, solver_reason_ : str
        How the components were found, and why in that way.
    n_passes_ : int
        Passes over the data that were made for the components.
    residual_ : float
        The largest residual, as a fraction of the largest variance; 0 for ``"covariance"``. Where it is above ``tol``,
        ``max_passes`` were not enough.
    n_spectra_ : int
        Spectra that were fitted on.
    n_nonfinite_ : int
        Spectra that were left out because of a NaN or an infinity; ``transform`` gives them NaN.
    """

    linear = True
    learned_arrays: ClassVar = {
        "components_": ("component", "channel"),
        "mean_": ("channel",),
        "explained_variance_": ("component",),
        "explained_variance_ratio_": ("component",),
    }
    learned_values = (
        "solver_",
        "solver_reason_",
        "n_passes_",
        "residual_",
        "total_variance_",
        "captured_variance_",
        "n_spectra_",
        "n_nonfinite_",
        "n_irregular_",
    )

    components_: FloatArray
    mean_: FloatArray
    explained_variance_: FloatArray
    explained_variance_ratio_: FloatArray
    captured_variance_: float
    total_variance_: float
    solver_: str
    solver_reason_: str
    n_passes_: int
    residual_: float
    n_spectra_: int
    _search: Search | None
    _vectors: FloatArray

    def __init__(
        self,
        n_components: int,
        *,
        whiten: bool = False,
        solver: str = "auto",
        dtype: str | None = None,
        tol: float = 1e-6,
        max_passes: int = 10,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.solver = solver
        self.dtype = dtype
        self.tol = tol
        self.max_passes = max_passes
        self.seed = seed

    def plan(self, n_channels: int) -> int:
        """Return the number of components, and check the parameters and the size of a covariance."""
        self._check_parameters(n_channels)
        self.solver_, self.solver_reason_ = choose_solver(self.solver, n_channels)
        self.n_features_in_ = n_channels
        return int(self.n_components)

    def request(self) -> Request:
        """Ask for the covariance, or for its product with random vectors."""
        if self.solver_ == "covariance":
            return covariance(exactly=self.dtype == "float64")
        n_channels = self.n_features_in_
        n_vectors = min(self.n_components + OVERSAMPLING, n_channels)
        self._search = None
        return self._sketch(random_directions(n_channels, n_vectors, self.seed), 1)

    def learn(self, statistic: Covariance | Sketch) -> Request | None:
        """Decompose the covariance, or ask for another pass while the components still move."""
        if statistic.n < max(2, self.n_components):
            raise UsageError(
                f"PCA(n_components={self.n_components}) of {statistic.n} finite spectra: at least "
                f"{max(2, self.n_components)} are needed"
            )
        learn_counts(self, statistic)
        self.mean_ = statistic.mean
        if isinstance(statistic, Sketch):
            with one_blas_thread():  # more could round differently
                return self._learn_sketch(statistic)
        self._decompose(statistic)
        return None

    def _decompose(self, statistic: Covariance) -> None:
        from scipy.linalg import eigh

        k, n_channels = self.n_components, len(statistic.mean)
        matrix = statistic.scatter / (statistic.n - 1)
        total = float(np.trace(matrix))
        with one_blas_thread():
            variance, vectors = eigh(
                matrix, overwrite_a=True, subset_by_index=[n_channels - k, n_channels - 1]
            )
        self._keep(vectors[:, ::-1], np.maximum(variance[::-1], 0), total)
        self.n_passes_, self.residual_ = 1, 0.0

    def as_affine(self) -> Affine:
        """Return ``(x - mean) @ components.T``, whitened where asked."""
        weight = self.components_.T / self._scale()
        return Affine(self.mean_, weight, np.zeros(weight.shape[1]))

    def inverse_stage(self) -> Affine:
        """Return ``scores @ components + mean``, the whitening undone."""
        weight = self.components_ * self._scale()[:, None]
        return Affine(np.zeros(len(weight)), weight, self.mean_)

    def channels_out(self) -> Channels:
        """Return the components, numbered from 1."""
        return Channels.numbered("PC", len(self.components_), start=1)

    def _check_parameters(self, n_channels: int) -> None:
        if self.solver not in SOLVERS:
            raise UsageError(f"PCA(solver={self.solver!r}): expected one of {', '.join(SOLVERS)}")
        if self.dtype not in (None, "float64"):
            raise UsageError(
                f'PCA(dtype={self.dtype!r}): expected None (the type of the spectra) or "float64"'
            )
        if self.max_passes < 1 or not self.tol >= 0:
            raise UsageError(
                f"PCA(max_passes={self.max_passes}, tol={self.tol}): expected at least one pass, and a tolerance of at "
                f"least 0"
            )
        if not 1 <= self.n_components <= n_channels:
            raise UsageError(
                f"PCA(n_components={self.n_components}): choose between 1 and the {n_channels} channels that come in"
            )

    def _sketch(self, vectors: FloatArray, number: int) -> Request:
        """Ask for the product of the scatter matrix and vectors, for the ``number``-th time."""
        self._vectors, self.n_passes_ = vectors, number
        return Request(
            f"subspace {number}", Sketcher(vectors, exactly=self.dtype == "float64"), quadratic=True
        )

    def _learn_sketch(self, sketch: Sketch) -> Request | None:
        """Take the components of the subspace so far, and ask for more of it where they are not good enough."""
        if self._search is None:
            search = Search.of(self._vectors, sketch.product, self._vectors.shape[1])
        else:
            search = self._search.extended(self._vectors, sketch.product)
        k, largest = self.n_components, float(search.values[0])
        self.residual_ = float(search.residuals()[:k].max() / largest) if largest > 0 else 0.0
        if self.residual_ > self.tol and self.n_passes_ < self.max_passes:
            directions = search.directions()
            if directions.shape[1]:
                self._search = search
                return self._sketch(directions, self.n_passes_ + 1)
        self._search = None
        self._keep(search.vectors[:, :k], search.values[:k] / (sketch.n - 1), sketch.m2 / (sketch.n - 1))
        return None

    def _keep(self, vectors: FloatArray, variance: FloatArray, total: float) -> None:
        """Set what was learned from ``(channel, component)`` vectors and their variances, both by falling variance."""
        self.components_ = with_signs(vectors.T)
        self.explained_variance_ = variance
        self.explained_variance_ratio_ = variance / total if total > 0 else 0 * variance
        self.captured_variance_ = float(self.explained_variance_ratio_.sum())
        self.total_variance_ = total

    def _scale(self) -> FloatArray:
        """Return what each score is divided by."""
        if not self.whiten:
            return np.ones(len(self.components_))
        # A component without variance would divide by zero; scikit-learn bounds it from below in the same way.
        return np.maximum(np.sqrt(self.explained_variance_), np.finfo(np.float64).eps)


def choose_solver(solver: str, n_channels: int) -> tuple[str, str]:
    """Return the solver for a number of channels, and why that one.

    Raises
    ------
    MemoryLimitError
        A covariance was asked for that is too large.
    """
    if solver == "covariance" and n_channels > MAX_CHANNELS:
        raise MemoryLimitError(
            f"PCA of {n_channels} channels takes a covariance of {format_bytes(8 * n_channels**2)}, at most "
            f'{MAX_CHANNELS} channels ({format_bytes(8 * MAX_CHANNELS**2)}) are taken: say solver="auto" or '
            f'"randomized", put SelectChannels before it, or convert onto a coarser axis'
        )
    if solver != "auto":
        return solver, "as asked"
    size, limit = format_bytes(8 * n_channels**2), format_bytes(8 * MAX_CHANNELS**2)
    relation = "at most" if n_channels <= MAX_CHANNELS else "more than"
    reason = f"a covariance of {n_channels} channels takes {size}, {relation} {limit}"
    return ("covariance" if n_channels <= MAX_CHANNELS else "randomized"), reason


def with_signs(components: FloatArray) -> FloatArray:
    """Return unit vectors whose entry of largest absolute value is positive."""
    largest = np.argmax(np.abs(components), axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return np.ascontiguousarray(components * signs[:, None])
