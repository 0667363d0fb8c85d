"""What is known of a file on a server before it is downloaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server.

    Attributes
    ----------
    url
        ``http://``, ``https://``, or of an object store.
    path
        Its path below the project or prefix that it belongs to, as the server writes it; only to tell files apart
        and to name them in reports.
    size
        In bytes, as far as it is known; ``exact`` says whether the file must have just this size.
    md5
        Lower-case hexadecimal; several where a list has the name more than once and any of them may be this file's.
    exact
        Whether ``size`` is certain, or only what a listing says.
    """

    url: str = field(repr=False)
    path: str
    size: int | None = None
    md5: tuple[str, ...] = ()
    exact: bool = False

    @property
    def expected(self) -> int | None:
        """The size that the file must have, where that is certain."""
        return self.size if self.exact else None

    def to_json(self) -> dict[str, Any]:
        """Return what a study keeps of it; see :class:`Receipt` for what was found."""
        return {"path": self.path, "size": self.size, "md5": self.md5[0] if len(self.md5) == 1 else None}
