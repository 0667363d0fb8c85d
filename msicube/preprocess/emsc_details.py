"""What EMSC found in each spectrum: coefficients and residuals, of an array at once, of slides lazily."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.chain import Beside, Chain, chain_of
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import Where
from msicube.preprocess.emsc_kernel import LeastSquares
from msicube.preprocess.lazy import Mapped, Part, transform_any

if TYPE_CHECKING:
    from msicube.preprocess.base import Step
    from msicube.preprocess.emsc import EMSC

#: Names of the variables.
COEFFICIENTS, RESIDUAL_RMS, RESIDUALS = "coefficients", "residual_rms", "residuals"


@dataclass(frozen=True, eq=False)
class Coefficients:
    """A stage that gives the coefficients of each spectrum and the root mean square of its residual.

    Attributes
    ----------
    model
        The fit.
    weights
        ``(channel,)`` of the fit.
    spectra
        Whether the residual itself comes last.
    """

    model: LeastSquares
    weights: NDArray[np.float64]
    spectra: bool = False

    @property
    def n_out(self) -> int:
        """Columns of what comes out."""
        n_terms, n_channels = self.model.terms.shape
        return n_terms + 1 + (n_channels if self.spectra else 0)

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map a block to ``(n, terms + 1)``, or ``(n, terms + 1 + channels)``."""
        n_terms = len(self.model.terms)
        found = np.empty((len(block), self.n_out), block.dtype)
        heard = self.weights > 0
        with np.errstate(invalid="ignore", over="ignore"):
            for span, part in self.model.parts(block):
                coefficients, _ = self.model.coefficients(part)
                residual = part - self.model.sum(coefficients)
                found[span, :n_terms] = coefficients
                if self.spectra:
                    found[span, n_terms + 1 :] = residual
                residual *= self.weights.astype(part.dtype)
                residual = np.where(heard, residual, 0)
                square = np.einsum("ij,ij->i", residual, residual)
                found[span, n_terms] = np.sqrt(square / np.sum(self.weights**2))
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


def details_of(X: Any, steps: Sequence[Step], channels: Channels, where: Where = None) -> Any:
    """Return coefficients and residuals; see :meth:`msicube.preprocess.emsc.EMSC.details`.

    Parameters
    ----------
    X, where
        Spectra, as for ``transform``.
    steps
        Fitted, one of them an EMSC; those behind it do not matter.
    channels
        Of the spectra.
    """
    chain, parts = details_chain(steps, channels.n)
    found = transform_any(X, Mapped("EMSC", chain, channels, channels, dict, parts), where)
    if isinstance(found, np.ndarray):
        return EMSCDetails(parts[0].labels, found[:, :-1], found[:, -1])
    return found


def details_chain(
    steps: Sequence[Step], n_in: int, *, features: bool = False, residuals: bool = False
) -> tuple[Chain, tuple[Part, ...]]:
    """Return a chain that gives what the EMSC among some steps finds, and what its columns are.

    Parameters
    ----------
    steps
        Fitted.
    n_in
        Channels of the spectra that go into the first.
    features
        Whether the features that all steps give come first.
    residuals
        Whether the residual of each spectrum comes last.

    Raises
    ------
    UsageError
        There is no EMSC among the steps, or more than one.
    """
    number, emsc = _the_emsc(steps)
    stage = emsc.finding(spectra=residuals)
    chains = [Chain(emsc.n_features_in_, stage.n_out, (stage,))]
    if features:
        chains.insert(0, chain_of(steps[number:], emsc.n_features_in_))
    before = chain_of(steps[:number], n_in)
    chain = Chain(
        n_in, sum(one.n_out for one in chains), (*before.stages, Beside(tuple(chains))), before.columns
    )
    return chain, _parts(emsc, chain.n_out - stage.n_out, residuals)


def _parts(emsc: EMSC, start: int, residuals: bool) -> tuple[Part, ...]:
    """Return what the columns of the stage are, of which the first is at ``start``."""
    terms = tuple(emsc.term_names_)
    last = start + len(terms)
    parts = (
        Part(COEFFICIENTS, slice(start, last), "term", terms, "coefficients of the EMSC model"),
        Part(RESIDUAL_RMS, slice(last, last + 1), None, (), "root mean square of the EMSC residual"),
    )
    if not residuals:
        return parts
    names = tuple(map(str, emsc.channels_in.names()))
    what = "what the EMSC model leaves of each spectrum"
    return (*parts, Part(RESIDUALS, slice(last + 1, last + 1 + len(names)), "channel", names, what))


def _the_emsc(steps: Sequence[Step]) -> tuple[int, EMSC]:
    """Return the one EMSC among steps and its place."""
    from msicube.preprocess.emsc import EMSC

    found = [(number, step) for number, step in enumerate(steps) if isinstance(step, EMSC)]
    if len(found) == 1:
        return found[0]
    names = " -> ".join(type(step).__name__ for step in steps)
    raise UsageError(
        f"coefficients and residuals are those of one EMSC, and {len(found)} of the steps are one ({names}): leave "
        f"them out, or fit a pipeline with one EMSC"
    )
