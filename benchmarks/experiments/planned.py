"""The tables that the command runs: the full one, and a quick one of small size that a test runs from end to end."""

from __future__ import annotations

from benchmarks.experiments.table import Experiment, StudySpec, Table, Task

_COLORECTAL = StudySpec(
    "colorectal",
    (
        "simulate msi {files} --slides 80 --shape 192 192 --channels 400 --patient-effect 2 --seed 2",
        "convert {files} {study} --samples {files}/samples.csv",
    ),
)
_BREAST = StudySpec(
    "breast",
    (
        "simulate ftir {files} --slides 96 --shape 64 64 --wavenumbers 900 3100 --seed 2",
        "convert {files} {study} --samples {files}/samples.csv",
        "mask {study} tissue --method tissue --per-slide",
        'mask {study} paraffin --method paraffin --per-slide --where "~tissue"',
        "mask {study} dead --method dead",
    ),
)
_TUMOUR = Task("colorectal", "Colorectal MALDI imaging: tumour or normal", "colorectal", "label")
_CANCER = Task("breast-binary", "Breast micro-FTIR: cancer or adjacent tissue", "breast", "diagnosis")
_SUBTYPE = Task("breast-subtypes", "Breast micro-FTIR: which of four subtypes", "breast", "subtype")

#: What differs from the recipes; the page gives the reasons.
_ONE_THREAD = "train.threads=1"
_RENEWED = "train.renew_statistics=true"
_RESNET = (
    *(_ONE_THREAD, "model.weights=random", "patches.stride=16", "patches.min_coverage=0.75"),
    *("train.epochs=15", "train.learning_rate=3e-4"),
)
_CNN = (
    *(_ONE_THREAD, "spectra.limit=20000", "spectra.test_limit=10000"),
    *("train.epochs=5", "train.learning_rate=1e-3"),
)
_CARENET = (
    *(_ONE_THREAD, "spectra.limit=4000", "spectra.test_limit=2000"),
    "train.epochs=10",
)
#: EMSC makes nothing of a pixel without a sample whose noise happens to look like the reference upside down.
_UNDEFINED = (
    'masks.undefined={where = "acquired & ~dead", steps = [{step = "EMSC", degree = 2, interferents = "paraffin", '
    'n_interferents = 3}, {step = "DeadPixelMask"}]}'
)
#: Classifiers that are fitted at once know no epochs.
_CLASSICAL = (_ONE_THREAD, "spectra.limit=40000", "spectra.test_limit=2000")

FULL = Table(
    studies=(_COLORECTAL, _BREAST),
    tasks=(_TUMOUR, _CANCER, _SUBTYPE),
    experiments=(
        Experiment(
            "resnet18",
            "colorectal",
            "colorectal-resnet18",
            "the paper's patches and network, each patient held out once",
            options="--folds 4",
            settings=_RESNET,
            figures=("probability",),
        ),
        Experiment(
            "resnet18-patch",
            "colorectal",
            "colorectal-resnet18",
            "the same, split by patch as the paper does: what that leak is worth",
            options="--split patch",
            settings=_RESNET,
            against=("resnet18",),
        ),
        Experiment(
            "resnet18-shuffled",
            "colorectal",
            "colorectal-resnet18",
            "the same on labels that say nothing: chance",
            options="--folds 4 --shuffle-labels",
            settings=_RESNET,
            against=("resnet18",),
        ),
        Experiment(
            "resnet18-renewed",
            "colorectal",
            "colorectal-resnet18",
            "statistics of batch normalisation taken anew before each evaluation",
            options="--folds 4",
            settings=(*_RESNET, _RENEWED),
            against=("resnet18",),
        ),
        Experiment(
            "cnn1d",
            "colorectal",
            "colorectal-cnn1d",
            "single pixels by their 100 most telling m/z, each patient held out once",
            options="--folds 4",
            settings=_CNN,
            explain="folds",
            against=("resnet18",),
            figures=("roc",),
        ),
        Experiment(
            "cnn1d-patch",
            "colorectal",
            "colorectal-cnn1d",
            "the same, split by pixel: what that leak is worth",
            options="--split patch",
            settings=_CNN,
            against=("cnn1d",),
        ),
        Experiment(
            "cnn1d-shuffled",
            "colorectal",
            "colorectal-cnn1d",
            "the same on labels that say nothing: chance",
            options="--folds 4 --shuffle-labels",
            settings=_CNN,
            against=("cnn1d",),
        ),
        Experiment(
            "binary",
            "breast-binary",
            "breast-ftir-binary",
            "masks, EMSC and CaReNet, four folds by patient",
            settings=_CARENET,
            explain="run",
            figures=("explanation", "calibration"),
        ),
        Experiment(
            "binary-shuffled",
            "breast-binary",
            "breast-ftir-binary",
            "the same on labels that say nothing: chance",
            options="--shuffle-labels",
            settings=_CARENET,
            against=("binary",),
        ),
        *(
            Experiment(
                name,
                "breast-binary",
                "breast-ftir-binary",
                shows,
                options=options,
                settings=settings,
                against=("binary",),
            )
            for name, shows, options, settings in (
                (
                    "renewed",
                    "statistics of batch normalisation taken anew before each evaluation",
                    "",
                    (*_CARENET, _RENEWED),
                ),
                ("no-outliers", "ablation: outliers are kept", "--where tissue", _CARENET),
                (
                    "no-masks",
                    "ablation: every measured pixel that is not dead, paraffin and holes too",
                    '--where "acquired & ~dead & ~undefined"',
                    (*_CARENET, _UNDEFINED),
                ),
                ("no-emsc", "ablation: without EMSC", "", (*_CARENET, "pipeline.without=['EMSC']")),
                ("plsda", "PLS-DA in the place of the network", "--model plsda", _CLASSICAL),
                ("svm", "a support vector machine", "--model svm", _CLASSICAL),
                ("random-forest", "a random forest", "--model random_forest", _CLASSICAL),
            )
        ),
        Experiment(
            "subtypes",
            "breast-subtypes",
            "breast-ftir-subtypes",
            "the same chain on the cores of tumours alone",
            settings=_CARENET,
            explain="run",
            figures=("confusion",),
        ),
        Experiment(
            "subtypes-shuffled",
            "breast-subtypes",
            "breast-ftir-subtypes",
            "the same on labels that say nothing: chance",
            options="--shuffle-labels",
            settings=_CARENET,
            against=("subtypes",),
        ),
    ),
)

_SMALL_CARENET = (
    *(_ONE_THREAD, "train.epochs=6", "train.batch_size=25", "spectra.limit=500", "spectra.test_limit=200"),
    *("model.width=[4,8,16]", "model.hidden=16", "data.folds=2"),
)

QUICK = Table(
    studies=(
        StudySpec(
            "breast",
            (
                "simulate ftir {files} --slides 16 --shape 16 16 --wavenumbers 900 3100 --seed 1 --class-difference 5 "
                "--patient-effect 0.3",
                "convert {files} {study} --samples {files}/samples.csv",
                "mask {study} tissue --method tissue --per-slide",
                'mask {study} paraffin --method paraffin --per-slide --where "~tissue"',
            ),
        ),
    ),
    tasks=(_CANCER,),
    experiments=(
        Experiment(
            "binary",
            "breast-binary",
            "breast-ftir-binary",
            "masks, EMSC and CaReNet, two folds by patient",
            settings=_SMALL_CARENET,
            explain="run",
            figures=("explanation",),
        ),
        Experiment(
            "binary-shuffled",
            "breast-binary",
            "breast-ftir-binary",
            "the same on labels that say nothing: chance",
            options="--shuffle-labels",
            settings=_SMALL_CARENET,
            against=("binary",),
        ),
    ),
)
