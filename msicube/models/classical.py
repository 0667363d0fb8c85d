"""Classifiers of chemometrics beside the networks: fitted at once by scikit-learn, kept and applied as torch modules.

What scikit-learn learns is copied into buffers of a module. So these classifiers are saved, loaded, put on a device,
evaluated and applied as every network is: a file of plain tensors (``torch.load(..., weights_only=True)``), which runs
no code when it is opened, as a pickle or a joblib file of estimators does, and does not depend on the version of
scikit-learn that made it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msicube.errors import NotFittedError, UsageError
from msicube.models.registry import Provenance

Floats = NDArray[np.float64]


class FittedAtOnce(nn.Module):
    """A classifier that is fitted at once on a sample of spectra, and not epoch by epoch.

    A subclass names its buffers in ``learned`` and writes :meth:`learn` and :meth:`scores`.

    Parameters
    ----------
    n_channels, n_classes
        Of the spectra.
    max_samples
        The most spectra that :meth:`fit` is given: an experiment draws so many from the training slides.
    """

    #: Names of the buffers that a fit makes, whatever their shapes.
    learned: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, n_channels: int, n_classes: int, max_samples: int) -> None:
        super().__init__()
        if max_samples < n_classes:
            raise UsageError(f"max_samples={max_samples}: {n_classes} classes need a spectrum each at least")
        self.n_channels, self.n_classes, self.max_samples = n_channels, n_classes, max_samples
        for name in self.learned:
            self.register_buffer(name, None)

    @property
    def provenance(self) -> Provenance:
        """Where its numbers come from."""
        note = f"Fitted at once by scikit-learn, on at most {self.max_samples} training spectra."
        return Provenance("random", note, ("all",))

    def fit(self, spectra: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int = 0) -> None:
        """Learn from spectra.

        Parameters
        ----------
        spectra
            ``(n, n_channels)``, finite.
        labels
            ``(n,)`` class indices.
        seed
            Of whatever is drawn.

        Raises
        ------
        UsageError
            A NaN or an infinity, or a class without a spectrum.
        """
        lacking = sorted(set(range(self.n_classes)) - set(np.unique(labels).tolist()))
        if lacking:
            raise UsageError(
                f"{type(self).__name__} was given {len(labels)} spectra and none of class number {lacking[0]}: raise "
                f"max_samples, or balance the classes"
            )
        if not np.isfinite(spectra).all():
            wrong = int((~np.isfinite(spectra).all(axis=1)).sum())
            raise UsageError(
                f"{wrong} of {len(spectra)} spectra hold a NaN or an infinity: leave such pixels out by a mask"
            )
        for name, value in self.learn(spectra, labels, seed).items():
            setattr(self, name, torch.from_numpy(np.array(value)))

    @abstractmethod
    def learn(self, spectra: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> dict[str, Any]:
        """Return the arrays that ``learned`` names."""

    @abstractmethod
    def scores(self, spectra: Tensor) -> Tensor:
        """Return logits ``(n, n_classes)`` of float32 spectra, float64."""

    def forward(self, spectra: Tensor) -> Tensor:
        """Return the logits of a batch of spectra; their softmax are the probabilities.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        if any(getattr(self, name) is None for name in self.learned):
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit(spectra, labels) first")
        return self.scores(spectra)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.learned:
            if prefix + name in state_dict:  # only a fit knows its shape
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class PLSDA(FittedAtOnce):
    """Partial least squares discriminant analysis: PLS regression onto the classes, the largest of which is predicted.

    Parameters
    ----------
    n_channels, n_classes, max_samples
        As for :class:`FittedAtOnce`.
    n_components
        Latent variables; at most as many as channels.

    Notes
    -----
    The regression, on mean-centred spectra that are not scaled, gives no probabilities. They are the softmax of its
    values times one number, which is fitted by maximum likelihood on the same spectra and changes no decision. Since
    these spectra were fitted, it is too large rather than too small: see the calibration of the run.

    References
    ----------
    M. Barker and W. Rayens, J. Chemom. 17 (2003) 166. One number for all logits: C. Guo et al., ICML (2017) 1321.
    """

    learned = ("weight", "offset", "scale")

    weight: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(
        self, *, n_channels: int, n_classes: int, n_components: int = 10, max_samples: int = 20_000
    ) -> None:
        super().__init__(n_channels=n_channels, n_classes=n_classes, max_samples=max_samples)
        if n_components < 1:
            raise UsageError(f"PLSDA(n_components={n_components}): at least 1 latent variable")
        self.n_components = n_components

    def learn(self, spectra: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> dict[str, Any]:
        """Regress the classes on the spectra."""
        from sklearn.cross_decomposition import PLSRegression

        X = spectra.astype(np.float64)
        model = PLSRegression(n_components=min(self.n_components, *X.shape), scale=False)
        model.fit(X, np.eye(self.n_classes)[labels])
        weight, offset = model.coef_.T, model.predict(np.zeros((1, X.shape[1])))[0]
        scale = likeliest_scale(X @ weight + offset, labels)
        return {"weight": weight, "offset": offset, "scale": scale}

    def scores(self, spectra: Tensor) -> Tensor:
        """Return the scaled values of the regression."""
        return (spectra.double() @ self.weight + self.offset) * self.scale


class KernelSVM(FittedAtOnce):
    """Support vector machine with a Gaussian kernel, each class against the rest.

    The kernel is that between a spectrum and ``n_landmarks`` training spectra (Nystroem's approximation), so that time
    and memory grow with the number of spectra and not with its square, and what is saved is bounded.

    Parameters
    ----------
    n_channels, n_classes, max_samples
        As for :class:`FittedAtOnce`.
    n_landmarks
        Training spectra that the kernel is computed with; drawn.
    C
        Penalty of what is on the wrong side; smaller is smoother.
    gamma
        Of the kernel ``exp(-gamma |x - y|^2)`` of standardised spectra; 0 is one over the number of channels.

    Notes
    -----
    Channels are standardised over the spectra of the fit; one that is constant stays 0. Probabilities as for
    :class:`PLSDA`.

    References
    ----------
    C. Cortes and V. Vapnik, Mach. Learn. 20 (1995) 273; C. Williams and M. Seeger, NIPS (2000) 682.
    """

    learned = ("mean", "deviation", "landmarks", "gamma", "weight", "offset", "scale")

    mean: Tensor
    deviation: Tensor
    landmarks: Tensor
    gamma: Tensor
    weight: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        *,
        n_channels: int,
        n_classes: int,
        n_landmarks: int = 500,
        C: float = 1.0,
        gamma: float = 0.0,
        max_samples: int = 20_000,
    ) -> None:
        super().__init__(n_channels=n_channels, n_classes=n_classes, max_samples=max_samples)
        if n_landmarks < 1 or C <= 0 or gamma < 0:
            raise UsageError(
                f"KernelSVM(n_landmarks={n_landmarks}, C={C}, gamma={gamma}): expected at least one landmark, C above "
                f"0 and gamma no less than 0"
            )
        self.n_landmarks, self.C, self._gamma = n_landmarks, C, gamma or 1 / n_channels

    def learn(self, spectra: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> dict[str, Any]:
        """Fit the machine on the kernel's features."""
        from sklearn.kernel_approximation import Nystroem
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        scaler = StandardScaler().fit(spectra.astype(np.float64))
        X = scaler.transform(spectra.astype(np.float64))
        kernel = Nystroem(
            gamma=self._gamma, n_components=min(self.n_landmarks, len(X)), random_state=seed
        ).fit(X)
        features = kernel.transform(X)
        machine = LinearSVC(C=self.C, dual=False, random_state=seed).fit(features, labels)
        coefficients, offset = machine.coef_, machine.intercept_
        if self.n_classes == 2:
            coefficients, offset = (
                np.vstack([-coefficients, coefficients]) / 2,
                np.append(-offset, offset) / 2,
            )
        return {
            "mean": scaler.mean_,
            "deviation": scaler.scale_,
            "landmarks": kernel.components_,
            "gamma": np.float64(self._gamma),
            "weight": kernel.normalization_.T @ coefficients.T,
            "offset": offset,
            "scale": likeliest_scale(features @ coefficients.T + offset, labels),
        }

    def scores(self, spectra: Tensor) -> Tensor:
        """Return the scaled distances from the planes between the classes."""
        X = (spectra.double() - self.mean) / self.deviation
        squares = (X**2).sum(1, keepdim=True) + (self.landmarks**2).sum(1) - 2 * X @ self.landmarks.T
        kernel = torch.exp(-self.gamma * squares.clamp(min=0))
        return (kernel @ self.weight + self.offset) * self.scale


def likeliest_scale(scores: Floats, labels: NDArray[np.int64]) -> np.float64:
    """Return the factor on scores ``(n, n_classes)`` whose softmax makes the labels likeliest; the order is kept.

    The labels are Platt's, a little less than certain: where all of these spectra are told right, any larger factor
    would else be likelier still.

    References
    ----------
    J. Platt, "Probabilistic outputs for support vector machines", Advances in Large Margin Classifiers (1999) 61.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    targets = smoothed(labels, scores.shape[1])

    def loss(logarithm: float) -> float:
        return -float((targets * log_softmax(np.exp(logarithm) * scores, axis=1)).sum(axis=1).mean())

    return np.float64(np.exp(minimize_scalar(loss, bounds=(-7.0, 7.0), method="bounded").x))


def smoothed(labels: NDArray[np.int64], n_classes: int) -> Floats:
    """Return Platt's targets ``(n, n_classes)``: 1 / (spectra of the label + classes) for each of the other classes."""
    counts = np.bincount(labels, minlength=n_classes)
    others = (1 / (counts + n_classes))[labels, None]
    targets: Floats = np.where(np.eye(n_classes, dtype=bool)[labels], 1 - (n_classes - 1) * others, others)
    return targets
