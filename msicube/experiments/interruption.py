"""End a training between two steps when it is asked to stop, and not in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: What a terminal sends on Ctrl-C, and what schedulers send before they kill.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Turns the signals that ask a process to stop into a ``KeyboardInterrupt`` at a moment that suits.

    Attributes
    ----------
    requested
        Whether a signal came while it was held back.
    """

    def __init__(self) -> None:
        self.requested = False
        self._held = False

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Only take note of a first signal; a second one is not held back.

        Raises
        ------
        KeyboardInterrupt
            At the end, where one came.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.check()

    def check(self) -> None:
        """End here if a signal came.

        Raises
        ------
        KeyboardInterrupt
            It did.
        """
        if self.requested:
            raise KeyboardInterrupt

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Raises
        ------
        KeyboardInterrupt
            It is not held back, or it is the second one.
        """
        if not self._held or self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Take the signals that ask to stop, and give them back at the end.

    Signals that somebody else handles or ignores are left alone, and so are all of them outside the main thread, where
    Python lets nobody handle a signal.
    """
    asked = Interruption()
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {number: handler for number, handler in before.items() if _is_free(handler)}
    try:
        for number in before:
            signal.signal(number, asked.take)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_free(handler: Any) -> bool:
    ours = isinstance(getattr(handler, "__self__", None), Interruption)  # of the folds around a fold
    return ours or handler in (signal.SIG_DFL, signal.default_int_handler)
