"""scikit-learn's own checks of estimators, on every public step and on a pipeline."""

from __future__ import annotations

from typing import Any

import pytest
from public_steps import public_steps
from sklearn.utils.estimator_checks import check_estimator

import msicube.preprocess as mp
from msicube.preprocess import Log1p, Pipeline, Standardize, TICNormalize

#: Channels that most checks give; the steps that need an axis bring one for so many.
N_CHANNELS = 3
TWO_CHANNELS = (
    "check_estimators_overwrite_params",
    "check_estimators_fit_returns_self",
    "check_readonly_memmap_input",
    "check_fit_idempotent",
    "check_fit_check_is_fitted",
    "check_n_features_in",
)
THREE_CHANNELS = (
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_predict1d",
    "check_fit_score_takes_y",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
    "check_transformer_preserve_dtypes",
)
MORE_CHANNELS = (
    "check_n_features_in_after_fitting",
    "check_estimators_dtypes",
    "check_positive_only_tag_during_fit",
)
ONE_CHANNEL = ("check_fit2d_1feature",)
ONE_SPECTRUM = ("check_fit2d_1sample",)

OBJECTS = {
    "check_dtype_object": "an array of Python objects is refused: no reader makes one, and a cast would hide a mistake"
}
FITTED_WHOLE = {
    "check_fit_score_takes_y": "partial_fit after fit is refused: fit keeps no statistic of the spectra, which for a "
    "covariance is as large as all that it works with"
}
SINGLE_SPECTRUM = dict.fromkeys(
    ONE_SPECTRUM,
    "one spectrum is refused in other words than the check looks for: it has no covariance, and its class nothing to "
    "be compared with",
)
SINGLE_CHANNEL = dict.fromkeys(
    ONE_CHANNEL, "one channel is refused in other words than the check looks for: there is nothing beside it"
)
NARROW = SINGLE_CHANNEL | dict.fromkeys(
    TWO_CHANNELS, "two channels are refused by name: the window, or the curve, takes three"
)
OWN_AXIS = dict.fromkeys(
    (*ONE_CHANNEL, *TWO_CHANNELS, *MORE_CHANNELS, *ONE_SPECTRUM),
    "arrays have no axis, so the step was given one, of three channels; the check brings another number of them",
)
NO_PEAKS = NARROW | dict.fromkeys(
    (*THREE_CHANNELS, "check_n_features_in_after_fitting"), "a few channels of random numbers have no peaks"
)
NO_PEAKS_TO_ALIGN_BY = NO_PEAKS | dict.fromkeys(
    ("check_estimators_dtypes", "check_pipeline_consistency", "check_positive_only_tag_during_fit"),
    "a few channels of random numbers have too few peaks to align by",
)
SEVERAL_PASSES = FITTED_WHOLE | {
    "check_n_features_in_after_fitting": "partial_fit is refused by a fit that iterates over all spectra"
}
NO_FIT = {
    "check_transformer_n_iter": "max_iter is of the transform, which iterates on each spectrum by itself"
}

#: Class of the step to the checks that it fails on purpose, besides those of OBJECTS, which are everybody's.
EXPECTED: dict[type, dict[str, str]] = {
    mp.ALSBaseline: NARROW | NO_FIT,
    mp.BandMask: SEVERAL_PASSES,
    mp.DeadPixelMask: FITTED_WHOLE
    | dict.fromkeys(ONE_CHANNEL, "a spectrum of one channel is constant: dead"),
    mp.EMSC: FITTED_WHOLE,
    mp.IncrementalPCA: SINGLE_SPECTRUM,
    mp.InterferentModel: FITTED_WHOLE | SINGLE_SPECTRUM | SINGLE_CHANNEL,
    mp.MieEMSC: OWN_AXIS | NO_FIT,
    mp.OutlierMask: FITTED_WHOLE | SINGLE_SPECTRUM | SINGLE_CHANNEL,
    mp.PCA: FITTED_WHOLE | SINGLE_SPECTRUM,
    mp.ParaffinMask: SEVERAL_PASSES,
    mp.PeakAlign: NO_PEAKS_TO_ALIGN_BY,
    mp.PeakPick: NO_PEAKS,
    mp.PolynomialBaseline: NO_FIT,
    mp.Resample: SINGLE_CHANNEL,
    mp.SNIPBaseline: NARROW,
    mp.SelectChannels: FITTED_WHOLE | SINGLE_SPECTRUM,
    mp.Standardize: FITTED_WHOLE,
    mp.TICMask: FITTED_WHOLE,
    mp.TissueMask: SEVERAL_PASSES,
    mp.TopHatBaseline: NARROW,
    mp.WaterVapour: OWN_AXIS,
    Pipeline: SINGLE_SPECTRUM,
}


ESTIMATORS = [
    *public_steps(N_CHANNELS),
    Pipeline([TICNormalize(), Log1p(), Standardize(), mp.PCA(1)]),
    mp.Standardize(by="slide"),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_scikit_learn_finds_nothing_that_has_no_reason(estimator: Any) -> None:
    expected = OBJECTS | EXPECTED.get(type(estimator), {})
    results = check_estimator(estimator, expected_failed_checks=expected, on_skip=None, on_fail=None)
    assert len(results) > 40
    failed = {one["check_name"]: one["exception"] for one in results if one["status"] == "failed"}
    assert not failed
    assert {one["check_name"] for one in results if one["status"] == "xfail"} == set(expected)
