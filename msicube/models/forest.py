"""A random forest as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msicube.errors import UsageError
from msicube.models.classical import FittedAtOnce

#: No probability is smaller; a forest gives exact zeros, and a logarithm of 0 is none.
SMALLEST = 1e-6


class RandomForest(FittedAtOnce):
    """Random forest: the mean of trees that are each grown on a bootstrap sample of the spectra.

    Parameters
    ----------
    n_channels, n_classes, max_samples
        As for :class:`~msicube.models.classical.FittedAtOnce`.
    n_trees
        How many.
    min_leaf
        Fewest spectra of a leaf. More makes smaller and smoother trees.

    Notes
    -----
    Every split looks at the square root of the number of channels, drawn anew. Trees are kept as one list of nodes:
    ``channel`` is -1 in a leaf, and a spectrum whose value there is at most ``threshold`` goes to ``left``. The logits
    are logarithms of the probabilities, no less than those of 1e-6.

    References
    ----------
    L. Breiman, Mach. Learn. 45 (2001) 5.
    """

    learned = ("roots", "channel", "threshold", "left", "right", "probability", "depth")

    roots: Tensor
    channel: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    probability: Tensor
    depth: Tensor

    def __init__(
        self,
        *,
        n_channels: int,
        n_classes: int,
        n_trees: int = 200,
        min_leaf: int = 5,
        max_samples: int = 20_000,
    ) -> None:
        super().__init__(n_channels=n_channels, n_classes=n_classes, max_samples=max_samples)
        if n_trees < 1 or min_leaf < 1:
            raise UsageError(f"RandomForest(n_trees={n_trees}, min_leaf={min_leaf}): at least 1 of each")
        self.n_trees, self.min_leaf = n_trees, min_leaf

    def learn(self, spectra: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> dict[str, Any]:
        """Grow the trees, in as many threads as torch has; their number changes nothing."""
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            self.n_trees,
            min_samples_leaf=self.min_leaf,
            random_state=seed,
            n_jobs=torch.get_num_threads(),
        ).fit(spectra, labels)
        trees = [tree.tree_ for tree in forest.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        counts = np.concatenate([tree.value[:, 0] for tree in trees])
        leaf = np.concatenate([tree.children_left for tree in trees]) < 0
        children = {
            side: np.concatenate(
                [getattr(tree, f"children_{side}") + root for tree, root in zip(trees, roots, strict=True)]
            )
            for side in ("left", "right")
        }
        channel = np.concatenate([tree.feature for tree in trees])
        return {
            "roots": roots.astype(np.int64),
            "channel": np.where(leaf, -1, channel).astype(np.int32),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            # A spectrum that has come to a leaf stays there.
            **{
                side: np.where(leaf, np.arange(len(leaf)), place).astype(np.int64)
                for side, place in children.items()
            },
            "probability": counts / counts.sum(axis=1, keepdims=True),
            "depth": np.int64(max(tree.max_depth for tree in trees)),
        }

    def scores(self, spectra: Tensor) -> Tensor:
        """Return the logarithms of the probabilities.

        Raises
        ------
        UsageError
            A gradient is asked for.
        """
        if spectra.requires_grad:
            raise UsageError(
                "a random forest has no gradient: explain it by the method 'occlusion', which needs none"
            )
        nodes = self.roots.expand(len(spectra), -1)
        for _ in range(int(self.depth)):
            channel = self.channel[nodes].long().clamp(min=0)
            goes_left = spectra.gather(1, channel).double() <= self.threshold[nodes]
            nodes = torch.where(goes_left, self.left[nodes], self.right[nodes])
        return self.probability[nodes].mean(dim=1).clamp(min=SMALLEST).log()
