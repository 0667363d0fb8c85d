"""Settings of torch that hold for one run and are put back after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from msicube.errors import RecipeError


def choose_device(name: str) -> torch.device:
    """Return the device of a recipe; ``"auto"`` is a GPU where there is one.

    Raises
    ------
    RecipeError
        There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(
            f"[train] device = {name!r} cannot be used here ({str(error).splitlines()[0]}): use 'auto' or 'cpu'"
        ) from error
    return device


@contextmanager
def torch_settings(*, threads: int, seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch and set its threads for the run, and put everything back after it."""
    before = torch.get_num_threads()
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            if threads:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(before)
