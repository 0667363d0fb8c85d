"""What the network sees: the fitted pipeline of a recipe, and streams of its features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from msicube.experiments.figures import Picture
from msicube.experiments.masks import describe_masks, fit_masks, make_masks, warn_of_empty
from msicube.experiments.pipelines import check_saved, is_materialised
from msicube.experiments.pretrained import find_pretrained
from msicube.experiments.ranks import Ranks
from msicube.experiments.recipe import Recipe
from msicube.experiments.relabelled import RelabelledStudy, relabel
from msicube.experiments.seen import patch_draw
from msicube.experiments.split import TEST, TRAIN, Split
from msicube.experiments.thumbnails import thumbnail
from msicube.preprocess import PCA, Pipeline, SelectChannels
from msicube.preprocess.recipes import build_pipeline, str_steps
from msicube.scheduling import SchedulerLike
from msicube.store import Location, Study
from msicube.store.study import create_study
from msicube.stream import PatchStream, SpectrumStream

#: Share of the axis that lies between any two channels of which ion images are shown.
APART = 0.02

AnyStream = SpectrumStream | PatchStream


@dataclass(frozen=True)
class Features:
    """A fitted pipeline and where its features come from.

    Attributes
    ----------
    recipe
        Of the experiment.
    study
        Under the labels and the split of the experiment.
    pipeline
        Fitted on the training slides alone.
    variable
        The variable of the slides that holds the features, or None where they are computed while streaming.
    origin
        Where the pipeline was found, as a sentence.
    in_study
        Whether it was found in the study, and not fitted for the experiment.
    masks
        The experiment's own, by name, fitted on the training slides alone.
    """

    recipe: Recipe
    study: RelabelledStudy
    pipeline: Pipeline
    variable: str | None
    origin: str
    in_study: bool = False
    masks: Mapping[str, Pipeline] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the features, in order."""
        return [str(name) for name in self.pipeline.get_feature_names_out()]

    @property
    def key(self) -> str:
        """The part of a batch that the network takes."""
        return "patches" if self.recipe.patches else "spectra"

    @property
    def has_components(self) -> bool:
        """Whether the features are at least three principal components."""
        return isinstance(self.pipeline.steps_[-1], PCA) and len(self.names) >= 3

    def describe(self) -> dict[str, Any]:
        """Return what a run records of its pipeline."""
        return {
            "name": self.recipe.pipeline.name,
            "origin": self.origin,
            "in_study": self.in_study,
            "steps": str_steps(self.pipeline.steps_),
            "slides": self.pipeline.slides_,
            "n_passes": self.pipeline.n_passes_,
            "fingerprint": self.pipeline.fingerprint(),
            "masks": describe_masks(self.masks, self.study.own_masks),
        }

    def save(self, path: Path) -> None:
        """Save the pipeline and the experiment's own masks under their names in a study of its own, without slides."""
        create_study(Location.of(path), modality=self.study.modality)
        self.pipeline.save(path, name=self.recipe.pipeline.name)
        for name, mask in self.masks.items():
            mask.save(path, name=name)

    def reloaded(self, path: Path) -> Features:
        """Return the same with the pipeline as it was saved, which is what a run that is taken up has."""
        return replace(self, pipeline=Pipeline.load(path, name=self.recipe.pipeline.name))

    def stream(
        self, slides: Sequence[str], *, seed: int, training: bool, ranks: Ranks | None = None
    ) -> AnyStream:
        """Return a stream of samples: shuffled and balanced for training, each once for evaluation.

        Parameters
        ----------
        slides
            To draw from.
        seed
            Of the order.
        training
            Whether to shuffle and balance.
        ranks
            The processes that share each batch in training; by default this one has all of it.
        """
        ranks = ranks or Ranks()
        recipe, section = self.recipe, self.recipe.samples
        study = self.study.part(TRAIN if training else TEST)
        common: dict[str, Any] = {
            "slides": list(slides),
            "variable": self.variable or "intensity",
            "pipeline": None if self.variable else self.pipeline,
            "batch_size": ranks.batch_size(recipe.train.batch_size),
            "rank": ranks.rank,
            "world_size": ranks.size,
            "seed": seed,
            "memory": recipe.train.memory,
            "labels": recipe.data.label,
            "balance": recipe.data.label if training and section.balance else None,
        }
        if recipe.patches is None:
            if training:
                return SpectrumStream(study, **common)
            # One lane, because a few held-out spectra must do; in random order where not all will be scored.
            return SpectrumStream(study, **common, lanes=1, shuffle=section.test_limit > 0)
        patches = recipe.patches
        return PatchStream(
            study,
            **common,
            size=patches.size,
            stride=(patches.stride if training else patches.test_stride) or patches.size,
            min_coverage=patches.min_coverage,
            scale=None if patches.scale == "none" else patches.scale,
            limit=(patches.limit if training else patches.test_limit) or None,
            shuffle=training,
        )

    def n_steps(self, stream: AnyStream, *, training: bool) -> int:
        """Return the steps of an epoch within the recipe's limit; patches are limited by their stream."""
        limit = self.recipe.samples.limit if training else self.recipe.samples.test_limit
        if not limit or self.recipe.patches:
            return len(stream)
        return min(len(stream), max(1, limit // self.recipe.train.batch_size))

    def batches(self, stream: AnyStream, *, training: bool, start: int = 0) -> Iterator[Mapping[str, Tensor]]:
        """Yield the batches of an epoch within the recipe's limit, those after ``start`` of a stream that is there."""
        return islice(stream, self.n_steps(stream, training=training) - start)

    def top_channels(self, n: int) -> tuple[NDArray[np.intp], list[float]]:
        """Return the channels that tell the classes best apart, best first, and their place on the axis.

        They lie :data:`APART` of the axis apart, so that they are not one peak and its isotopes. Without a step that
        selects channels, they are those of the highest mean in the first slide of the fit.
        """
        axis = self.study.axis(self.pipeline.slides_[0])
        selecting = [step for step in self.pipeline.steps_ if isinstance(step, SelectChannels)]
        if selecting:
            step = selecting[0]
            best = np.argsort(-step.scores_[step.indices_], kind="stable")
            ranked = np.searchsorted(axis, step.channels_out().values[best])
        else:
            mean = self.study[self.pipeline.slides_[0]]["mean_spectrum"].to_numpy()
            ranked = np.argsort(-mean, kind="stable")
        columns = _apart(ranked, axis, n)
        return columns, axis[columns].tolist()

    def picture(self, slide: str, *, title: str) -> Picture:
        """Return a picture of a slide's features."""
        if self.variable:
            return thumbnail(self.study, slide, title=title, variable=self.variable)
        return thumbnail(self.study, slide, title=title, pipeline=self.pipeline)


def _apart(ranked: NDArray[Any], axis: NDArray[np.float64], n: int) -> NDArray[np.intp]:
    """Return the first ``n`` of ranked channels that lie apart from all better ones."""
    chosen: list[int] = []
    for channel in ranked.tolist():
        if all(abs(axis[channel] - axis[other]) >= APART * np.ptp(axis) for other in chosen):
            chosen.append(channel)
        if len(chosen) == n:
            break
    return np.array(chosen, np.intp)


def prepare_features(
    recipe: Recipe,
    study: Study,
    split: Split,
    labels: Mapping[str, str] | None,
    *,
    seed: int = 0,
    scheduler: SchedulerLike = "threads",
    progress: Callable[[str, int, int], None] | None = None,
    fitted: Pipeline | None = None,
    fitted_masks: Mapping[str, Pipeline] | None = None,
) -> Features:
    """Find or fit the pipeline of a recipe; only training slides are ever seen.

    A run that starts from a pretraining takes the pipeline of that. A step that works by slide then learns of each
    held-out slide what that slide alone is transformed with. Where patches are split there are no other slides, and the
    pipeline sees all of their pixels. In cross-validation it is always fitted here. So are masks of the experiment's
    own, which then say of every slide what they hold.

    Parameters
    ----------
    recipe, study, split
        The experiment.
    labels
        Shuffled labels of the training slides. The pipeline is then always fitted here, with them.
    seed
        Of the draw, where patches are split.
    scheduler, progress
        Of the fit.
    fitted, fitted_masks
        The pipeline and the masks that this very experiment has fitted before, where a run is taken up.

    Raises
    ------
    RecipeError
        The study has a pipeline of this name that was fitted otherwise.
    """
    draw = patch_draw(recipe, seed) if split.by_patch else None
    own = relabel(study, split, recipe.data, labels, draw=draw)
    work: dict[str, Any] = {"scheduler": scheduler, "progress": progress}
    slides = list(dict.fromkeys([*split.train, *split.held_out]))
    masks = dict(fitted_masks or ()) if fitted else fit_masks(recipe, own, split.train, **work)
    if masks:
        own = own.with_masks(make_masks(masks, study, slides, **work))
        warn_of_empty(own, slides)
    name, where = recipe.pipeline.name, recipe.data.where or None
    if (pretrained := find_pretrained(recipe)) is not None:
        pipeline = fitted or pretrained.pipeline
        if fitted is None:
            pipeline.add_slides(own, slides=slides, **work)
        origin = f"That of the pretraining {pretrained.path}, computed while streaming."
        return Features(recipe, own, pipeline, None, origin, masks=masks)
    fit_where = recipe.pipeline.where or where
    found_there = labels is None and not masks and recipe.data.split != "folds" and name in study.pipelines()
    if fitted is None and found_there:
        pipeline = Pipeline.load(study, name=name)
        check_saved(pipeline, recipe.pipeline, train=split.train, study=study, where=fit_where)
        stored = is_materialised(study, pipeline, name, [*split.train, *split.held_out], where=where)
        how = "with its features" if stored else "computed while streaming"
        origin = f"Saved in the study as '{name}', {how}."
        return Features(recipe, own, pipeline, name if stored else None, origin, in_study=True)
    pipeline = fitted or build_pipeline(recipe.pipeline)
    if fitted is None:
        pipeline.fit(own, slides=split.train, where=fit_where, **work)
        if split.held_out:
            pipeline.add_slides(own, slides=split.held_out, **work)
    what = "the training slides and their shuffled labels" if labels else "the training slides"
    origin = f"Fitted in this run on {what}, computed while streaming."
    return Features(recipe, own, pipeline, None, origin, masks=masks)
