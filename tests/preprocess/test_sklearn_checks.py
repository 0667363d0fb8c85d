"""scikit-learn's own checks of estimators, on every public step and on a pipeline."""

from __future__ import annotations

from typing import Any

from public_steps import public_steps
from sklearn.utils.estimator_checks import parametrize_with_checks

from msicube.preprocess import PCA, Log1p, Pipeline, SelectChannels, Standardize, TICNormalize

OBJECTS = "an array of Python objects is refused: no reader makes one, and a cast would hide a mistake"
FITTED_WHOLE = (
    "partial_fit after fit is refused: fit keeps no statistic of the spectra, which for a covariance is as large as "
    "all that it works with"
)
ONE_SPECTRUM = (
    "one spectrum is refused by name: it has no covariance, and its class nothing to be compared with"
)

#: Class of the step to the checks that it fails on purpose. Those of None are everybody's.
EXPECTED: dict[Any, dict[str, str]] = {
    None: {"check_dtype_object": OBJECTS},
    Standardize: {"check_fit_score_takes_y": FITTED_WHOLE},
    SelectChannels: {"check_fit_score_takes_y": FITTED_WHOLE, "check_fit2d_1sample": ONE_SPECTRUM},
    PCA: {"check_fit_score_takes_y": FITTED_WHOLE, "check_fit2d_1sample": ONE_SPECTRUM},
    Pipeline: {"check_fit2d_1sample": ONE_SPECTRUM},
}


def expected_failures(estimator: Any) -> dict[str, str]:
    return {**EXPECTED[None], **EXPECTED.get(type(estimator), {})}


PIPELINE = Pipeline([TICNormalize(), Log1p(), Standardize(), PCA(1)])


@parametrize_with_checks([*public_steps(), PIPELINE], expected_failed_checks=expected_failures)
def test_scikit_learn_finds_nothing(estimator: Any, check: Any) -> None:
    check(estimator)
