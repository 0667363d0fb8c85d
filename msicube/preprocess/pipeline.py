"""Steps in a row, fitted together in as few passes over the data as they need."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

from sklearn.base import clone

from msicube.errors import UsageError
from msicube.preprocess.base import Step
from msicube.preprocess.chain import chain_of
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import Where, is_dataset
from msicube.preprocess.emsc_details import details_chain, details_of
from msicube.preprocess.fitting import Fit
from msicube.preprocess.lazy import Mapped, transform_any
from msicube.preprocess.transformer import Transformer
from msicube.store import Study


class Pipeline(Transformer):
    """Steps in a row.

    Parameters
    ----------
    steps
        Unfitted steps; they stay as they are. Their parameters are reachable as ``pca__n_components``: the class name
        in lower case, with ``-2``, ``-3``, ... for further ones of a class.

    Attributes
    ----------
    steps_ : list of Step
        The fitted steps.
    n_passes_ : int
        How often ``fit`` went through the data.
    passes_ : list of Pass
        What each pass gathered, before which step, of how many spectra.
    slides_ : list of str
        The slides that were fitted on; empty for an array or a dataset.
    slide_digests_ : dict of str to str
        For each of them a hash that tells its content from another's; see :func:`msicube.store.slide_digest`.
    where_ : str or None
        Which of their pixels were fitted on; None for all that are acquired.
    labels_ : list
        The classes of the fitted spectra; empty where no step asked for them.
    axis_ : (n_channels,) float64 or None
        m/z or wavenumber of the channels that come in; those of the first slide where the first step takes any axis.
    n_spectra_, n_nonfinite_ : int
        Spectra of the first pass, and those that it left out because of a NaN or an infinity; 0 without a pass.

    Examples
    --------
    >>> import numpy as np
    >>> import msicube as mc
    >>> X = np.random.default_rng(0).gamma(2.0, size=(60, 8)).astype("float32")
    >>> pipe = mc.Pipeline([mc.TICNormalize(), mc.Log1p(), mc.Standardize(), mc.PCA(3)]).fit(X)
    >>> pipe.transform(X).shape, pipe.n_passes_
    ((60, 3), 2)
    """

    steps_: list[Step]

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those of the steps included."""
        params: dict[str, Any] = {"steps": self.steps}
        if deep:
            for name, step in self.named_steps.items():
                params[name] = step
                if isinstance(step, Step):
                    params.update({f"{name}__{key}": value for key, value in step.get_params().items()})
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters: ``steps``, a step by its name, or ``<name>__<parameter>``."""
        named = self.named_steps
        if params.keys() & named.keys():
            self.steps = [params.pop(name, step) for name, step in named.items()]
        return super().set_params(**params)

    @property
    def named_steps(self) -> dict[str, Step]:
        """The unfitted steps by name."""
        named: dict[str, Step] = {}
        for step in self._steps():
            name = type(step).__name__.lower()
            taken = sum(1 for other in named.values() if type(other) is type(step))
            named[name if taken == 0 else f"{name}-{taken + 1}"] = step
        return named

    def channels_out(self) -> Channels:
        """Return what the features stand for."""
        self.check_fitted()
        return self.steps_[-1].channels_out()

    def transform(self, X: Any, *, where: Where = None, coefficients: bool = False) -> Any:
        """Map spectra; see :meth:`Transformer.transform <msicube.preprocess.transformer.Transformer.transform>`.

        Parameters
        ----------
        X
            A study, the dataset of a slide, or an ``(n, channels)`` array.
        where
            Which spectra; all by default.
        coefficients
            Of a study or a dataset: whether the datasets also get what the pipeline's EMSC finds in the spectra that
            reach it, ``coefficients`` (y, x, term) and ``residual_rms`` (y, x). Computed together, the spectra are read
            once.

        Returns
        -------
        TransformedStudy, xarray.Dataset or ndarray
            Lazy features, or those of an array.

        Raises
        ------
        UsageError
            ``coefficients`` of an array, or of a pipeline that has not just one EMSC; and as for every transformer.
        """
        if not coefficients:
            return super().transform(X, where=where)
        self.check_fitted()
        if not isinstance(X, Study) and not is_dataset(X):
            raise UsageError(
                "coefficients=True is for studies and datasets, which have room for variables: of an array, details(X) "
                "gives them"
            )
        chain, parts = details_chain(self.steps_, self.n_features_in_, features=True)
        mapped = Mapped(
            type(self).__name__, chain, self.channels_in, self.channels_out(), self._provenance, parts
        )
        return transform_any(X, mapped, where)

    def details(self, X: Any, *, where: Where = None) -> Any:
        """Return what the pipeline's EMSC finds in the spectra that reach it.

        Parameters
        ----------
        X, where
            As for ``transform``.

        Returns
        -------
        EMSCDetails, xarray.Dataset or TransformedStudy
            As :meth:`msicube.EMSC.details <msicube.preprocess.emsc.EMSC.details>` gives it.

        Raises
        ------
        UsageError
            The pipeline has no EMSC, or more than one.
        """
        self.check_fitted()
        return details_of(X, self.steps_, self.channels_in, where)

    def fingerprint(self) -> str:
        """Return a hash of the steps, their parameters and what they learned; equal pipelines have equal ones."""
        from msicube.preprocess.persistence import fingerprint

        self.check_fitted()
        return fingerprint(self)

    def save(self, study: Study | str | os.PathLike[str], *, name: str, overwrite: bool = False) -> None:
        """Save the fitted pipeline in a study.

        Parameters
        ----------
        study
            The study or its path.
        name
            Letters, digits and underscores; ``apply`` gives it to the variable that it makes.
        overwrite
            Whether to replace a pipeline of this name.

        Raises
        ------
        UsageError
            The name is taken, or not simple.
        """
        from msicube.preprocess.persistence import save_pipeline

        self.check_fitted()
        save_pipeline(self, study, name=name, overwrite=overwrite)

    @classmethod
    def load(cls, study: Study | str | os.PathLike[str], *, name: str) -> Self:
        """Load a fitted pipeline from a study; it transforms to the same bits as the one that was saved.

        Raises
        ------
        UsageError
            The study has none of this name.
        FormatVersionError
            It was saved by a newer msicube.
        CorruptStore
            Its numbers are not those that were saved.
        """
        from msicube.preprocess.persistence import load_pipeline

        return load_pipeline(cls, study, name=name)

    def restore(self, steps: list[Step], channels: Channels, record: Mapping[str, Any]) -> Self:
        """Set what an earlier fit learned: fitted steps, the channels of the data, and the recorded attributes."""
        self.steps_ = steps
        self._channels = channels
        for name, value in record.items():
            setattr(self, name, value)
        self.n_passes_ = len(self.passes_)
        self.n_spectra_ = self.passes_[0].n_spectra if self.passes_ else 0
        self.n_nonfinite_ = self.passes_[0].n_nonfinite if self.passes_ else 0
        self.axis_ = channels.values if channels.on_axis else None
        self.n_features_in_ = channels.n
        self.n_features_out_ = steps[-1].n_features_out_
        self._chain = chain_of(steps, channels.n)
        return self

    def _steps(self) -> Sequence[Any]:
        return self.steps if isinstance(self.steps, list | tuple) else []

    def _new_steps(self) -> Sequence[Step]:
        wrong = [step for step in self._steps() if not isinstance(step, Step)]
        if wrong or not self._steps():
            found = f"{wrong[0]!r} of type {type(wrong[0]).__name__}" if wrong else repr(self.steps)
            raise UsageError(f"Pipeline(steps) takes a list of steps such as TICNormalize(), found {found}")
        return [clone(step) for step in self.steps]

    def _finish(self, steps: Sequence[Step], fit: Fit) -> None:
        for step in steps:
            step.seal()
        self.restore(
            list(steps),
            fit.channels,
            {
                "passes_": fit.passes,
                "slides_": list(fit.slides),
                "slide_digests_": fit.slides,
                "where_": fit.where,
                "labels_": fit.classes,
            },
        )

    def _fitted_steps(self) -> Sequence[Step]:
        return self.steps_

    def _replace_steps(self, steps: list[Step]) -> None:
        names = ("passes_", "slides_", "slide_digests_", "where_", "labels_")
        record = {name: getattr(self, name) for name in names}
        for step in steps:
            step.seal()
        self.restore(steps, self._channels, record)

    def _provenance(self) -> dict[str, Any]:
        names = " -> ".join(str(step) for step in self.steps_)
        return {"pipeline": names, "pipeline_fingerprint": self.fingerprint()}
