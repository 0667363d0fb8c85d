"""``msicube mask``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from msicube.cli.common import (
    MASKS,
    Reporter,
    json_option,
    print_json,
    print_table,
    scheduler_option,
    where_option,
    workers_option,
)

if TYPE_CHECKING:
    from msicube.preprocess.masks import CoverageMask, MadeMask, Mask

#: Method -> the class that makes it, and the options that belong to it: option -> parameter.
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "tissue": ("TissueMask", {"band": "band", "seed": "seed"}),
    "paraffin": ("ParaffinMask", {"band": "band", "seed": "seed"}),
    "tic": ("TICMask", {"threshold": "threshold", "log": "log"}),
    "outliers": (
        "OutlierMask",
        {"components": "n_components", "alpha": "alpha", "rule": "rule", "margin": "margin"},
    ),
    "dead": ("DeadPixelMask", {"limits": "limits", "mads": "n_mads"}),
    "coverage": (
        "CoverageMask",
        {
            "of": "of",
            "radius": "radius",
            "min_fraction": "min_fraction",
            "min_area": "min_area",
            "max_hole": "max_hole",
        },
    ),
}


class _Threshold(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number, or ``otsu``."""

    name = "number|otsu"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "otsu" else click.FLOAT.convert(value, param, ctx)


@click.command("mask")
@click.argument("study")
@click.argument("name")
@click.option("--method", required=True, type=click.Choice(list(METHODS)), help="How to decide on a pixel.")
@where_option
@click.option("--slide", "slides", multiple=True, help="Only this slide; may be repeated.")
@click.option("--per-slide", is_flag=True, help="Fit on each slide by itself.")
@click.option(
    "--fit-slide",
    "fit_slides",
    multiple=True,
    help="Fit on this slide; may be repeated.  [default: training slides]",
)
@click.option("--allow-test", is_flag=True, help="Also fit on slides whose split is test.")
@click.option("--images", is_flag=True, help="Also store the numbers that the mask is decided on (outliers).")
@click.option("--overwrite", is_flag=True, help="Replace a mask of this name that was made in another way.")
@click.option(
    "--band", nargs=2, type=float, metavar="LOW HIGH", help="tissue, paraffin: wavenumbers, in cm^-1."
)
@click.option("--seed", type=int, help="tissue, paraffin: where the clustering begins.")
@click.option("--threshold", type=_Threshold(), help="tic: least sum of a spectrum.  [default: otsu]")
@click.option("--log", is_flag=True, default=None, help="tic: let otsu look at logarithms.")
@click.option("--components", type=click.IntRange(min=1), help="outliers: of the model.  [default: 5]")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="outliers: what each limit gives up.  [default: 0.01]",
)
@click.option("--rule", type=click.Choice(["either", "t2", "q"]), help="outliers: which limit counts.")
@click.option(
    "--margin", type=click.FloatRange(0, min_open=True), help="outliers: factor on both limits.  [default: 1]"
)
@click.option("--limits", nargs=2, type=float, metavar="LOW HIGH", help="dead: values that a pixel may have.")
@click.option(
    "--mads",
    type=click.FloatRange(0, min_open=True),
    help="dead: deviations that a mean intensity may lie from the median.",
)
@click.option("--of", type=MASKS, help="coverage: the mask to tidy.  [default: acquired]")
@click.option(
    "--radius", type=click.IntRange(min=0), help="coverage: of a neighbourhood, in pixels.  [default: 1]"
)
@click.option(
    "--min-fraction",
    type=click.FloatRange(0, 1),
    help="coverage: of a neighbourhood that a pixel needs to stay.",
)
@click.option("--min-area", type=click.IntRange(min=0), help="coverage: drop islands of fewer pixels.")
@click.option(
    "--max-hole", type=click.IntRange(min=0), help="coverage: fill holes of at most so many pixels."
)
@scheduler_option
@workers_option
@json_option
def command(
    study: str,
    name: str,
    method: str,
    where: str | None,
    slides: tuple[str, ...],
    per_slide: bool,
    fit_slides: tuple[str, ...],
    allow_test: bool,
    images: bool,
    overwrite: bool,
    scheduler: str,
    workers: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a mask of the slides of a study and store it in them under a name.

    Every --where of msicube then knows the name. A slide that has this very mask already is left alone, so the same
    command run again goes on where it stopped.
    """
    from msicube.preprocess import make_mask

    mask = _mask(method, options)
    with Reporter("masking") as reporter:
        made = make_mask(
            study,
            mask,
            name=name,
            slides=slides or None,
            where=where,
            per_slide=per_slide,
            fit_slides=fit_slides or None,
            allow_test=allow_test,
            images=images,
            overwrite=overwrite,
            scheduler=scheduler,
            workers=workers,
            progress=reporter.update,
        )
    if as_json:
        print_json([{**one.__dict__, "fraction": one.fraction} for one in made])
    else:
        print_table(
            f"mask {name}", ("slide", "", "spectra", "held", "fraction", ""), [_row(one) for one in made]
        )


def _mask(method: str, options: dict[str, Any]) -> Mask | CoverageMask:
    """Return the mask of a method with the options that were given."""
    from msicube import preprocess

    kind, known = METHODS[method]
    given = {option: value for option, value in options.items() if value is not None}
    foreign = sorted(set(given) - set(known))
    if foreign:
        names = ", ".join(f"--{option.replace('_', '-')}" for option in known)
        raise click.UsageError(
            f"--{foreign[0].replace('_', '-')} does not belong to --method {method}, which takes {names}"
        )
    mask: Mask | CoverageMask = getattr(preprocess, kind)(
        **{known[key]: value for key, value in given.items()}
    )
    return mask


def _row(one: MadeMask) -> list[object]:
    fraction = "" if one.fraction is None else f"{one.fraction:.3f}"
    return [one.slide, one.status, one.spectra, one.held, fraction, one.remark]
