"""PLS-DA, the support vector machine and the random forest, against scikit-learn's own estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from msicube.errors import NotFittedError, UsageError
from msicube.models import FittedAtOnce, build_model

NAMES = ("plsda", "svm", "random_forest")
OPTIONS: dict[str, dict[str, Any]] = {
    "plsda": {"n_components": 4},
    "svm": {"n_landmarks": 60},
    "random_forest": {"n_trees": 12, "min_leaf": 2},
}
Data = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]


def data(n_classes: int) -> Data:
    """Spectra of a few bands, of which two tell the classes; channel 5 is constant."""
    rng = np.random.default_rng(n_classes)
    labels = rng.integers(n_classes, size=400)
    bands = np.exp(-(((np.arange(40) - np.array([[8], [20], [30]])) / 3.0) ** 2))
    amounts = rng.gamma(8.0, 1.0, (400, 3))
    amounts[:, 0] += 6.0 * labels
    amounts[:, 2] += 4.0 * (labels == 1)
    spectra = (amounts @ bands + rng.normal(0, 0.3, (400, 40))).astype(np.float32)
    spectra[:, 5] = 0
    return spectra[:300], labels[:300], spectra[300:], labels[300:]


def fitted(name: str, n_classes: int) -> FittedAtOnce:
    model = build_model(name, n_channels=40, n_classes=n_classes, **OPTIONS[name])
    assert isinstance(model, FittedAtOnce)
    spectra, labels, _, _ = data(n_classes)
    model.fit(spectra, labels, seed=3)
    return model.eval()


def probabilities(model: torch.nn.Module, spectra: NDArray[np.float32]) -> NDArray[np.float64]:
    with torch.inference_mode():
        return torch.softmax(model(torch.from_numpy(spectra)), dim=1).numpy()


def peer(name: str, n_classes: int) -> Any:
    """The same by scikit-learn alone."""
    spectra, labels, _, _ = data(n_classes)
    if name == "random_forest":
        return RandomForestClassifier(12, min_samples_leaf=2, random_state=3).fit(spectra, labels)
    if name == "svm":
        kernel = Nystroem(gamma=1 / 40, n_components=60, random_state=3)
        chain = make_pipeline(StandardScaler(), kernel, LinearSVC(dual=False, random_state=3))
        return chain.fit(spectra.astype(np.float64), labels)
    model = PLSRegression(4, scale=False)
    return model.fit(spectra.astype(np.float64), np.eye(n_classes)[labels])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_forest_is_that_of_scikit_learn(n_classes: int) -> None:
    _, _, held_out, _ = data(n_classes)
    expected = peer("random_forest", n_classes).predict_proba(held_out)
    found = probabilities(fitted("random_forest", n_classes), held_out)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (expected == 0).any(), "a probability of 0 is among what is compared"


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", ["plsda", "svm"])
def test_scores_are_those_of_scikit_learn_times_one_number(name: str, n_classes: int) -> None:
    _, _, held_out, _ = data(n_classes)
    other = peer(name, n_classes)
    X = held_out.astype(np.float64)
    expected = other.predict(X) if name == "plsda" else other.decision_function(X)
    model = fitted(name, n_classes)
    with torch.inference_mode():
        found = model(torch.from_numpy(held_out)).numpy() / model.scale.numpy()
    if expected.ndim == 1:
        found = found[:, 1] - found[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max() + 1e-9)


@pytest.mark.parametrize("name", ["plsda", "svm"])
def test_no_other_number_makes_the_labels_likelier(name: str) -> None:
    spectra, labels, _, _ = data(3)
    model = fitted(name, 3)
    with torch.inference_mode():
        scores = model(torch.from_numpy(spectra)).numpy()
    counts = np.bincount(labels)[labels, None]
    targets = np.where(labels[:, None] == np.arange(3), (counts + 1) / (counts + 3), 1 / (counts + 3))
    np.testing.assert_allclose(targets.sum(axis=1), 1)

    def loss(factor: float) -> float:
        return -float((targets * np.log(softmax(factor * scores, axis=1))).sum(axis=1).mean())

    assert all(loss(factor) > loss(1.0) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_told_apart_and_saved_as_plain_tensors(name: str, tmp_path: Path) -> None:
    _, _, held_out, truth = data(3)
    model = fitted(name, 3)
    found = probabilities(model, held_out)
    assert (found.argmax(axis=1) == truth).mean() > 0.7
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    again = build_model(name, n_channels=40, n_classes=3, **OPTIONS[name])
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert np.array_equal(probabilities(again.eval(), held_out), found)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_model(name: str) -> None:
    _, _, held_out, _ = data(2)
    first, second = (probabilities(fitted(name, 2), held_out) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_fitted_is_refused(name: str) -> None:
    spectra, labels, _, _ = data(3)
    model = build_model(name, n_channels=40, n_classes=3, **OPTIONS[name])
    assert isinstance(model, FittedAtOnce)
    with pytest.raises(NotFittedError, match="is not fitted"):
        model(torch.zeros(1, 40))
    with pytest.raises(UsageError, match="none of class number 2"):
        model.fit(spectra[labels < 2], labels[labels < 2])
    spoilt = spectra.copy()
    spoilt[[3, 7], 0] = np.nan
    with pytest.raises(UsageError, match="2 of 300 spectra hold a NaN"):
        model.fit(spoilt, labels)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("plsda", {"n_components": 0}, "at least 1 latent variable"),
        ("svm", {"C": 0.0}, "C above 0"),
        ("svm", {"n_landmarks": 0}, "at least one landmark"),
        ("random_forest", {"n_trees": 0}, "at least 1 of each"),
        ("plsda", {"max_samples": 1}, "2 classes need a spectrum each"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_model(name, n_channels=40, n_classes=2, **options)


def test_a_forest_says_that_it_has_no_gradient() -> None:
    with pytest.raises(UsageError, match="'occlusion'"):
        fitted("random_forest", 2)(torch.zeros(1, 40, requires_grad=True))
