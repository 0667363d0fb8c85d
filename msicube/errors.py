"""The exceptions of msicube, one tree.

::

    MSICubeError
    ├── UsageError             the request itself is wrong (also a ValueError)
    │   ├── AxisRequired       processed data and no axis law; the message suggests one
    │   ├── AxisMismatch       slides on different spectral axes where one is needed
    │   ├── MemoryLimitError   the work cannot be done inside the memory limit; both numbers are given
    │   ├── NoFiniteSpectrum   a fit on data that hold no spectrum, or none without a NaN or an infinity
    │   ├── RecipeError        a recipe with an unknown key, a missing key or a wrong value
    │   └── LeakageError       a fit that would see slides held out for testing
    ├── SourceError            something about a source file
    │   ├── UnknownFormat      no reader takes this file
    │   └── CorruptSource      the file contradicts itself or is damaged
    ├── StoreError             something about a study
    │   ├── NotAStudy          the path is no msicube study
    │   ├── UnknownSlide       no slide of this name
    │   ├── SlideExists        a slide of this name is there already, from another source
    │   ├── StudyLocked        another process is writing to this study
    │   ├── FormatVersionError written by a newer msicube
    │   └── CorruptStore       a stored object is missing, damaged or against the schema
    ├── RemoteError            something about a server, or about what it sent
    │   └── DownloadError      a file did not arrive whole and as its checksum says
    ├── DiskSpaceError         there is not enough room for what was asked; both numbers are given
    ├── NotFittedError         used before ``fit`` (also scikit-learn's NotFittedError where that is loaded)
    └── MissingDependency      an optional package is not installed; the message has the pip command

Every message says what was found, what was expected and what to do. The command line prints it as one line and
exits with 1; :class:`UsageError` exits with 2 where it concerns the command's own arguments.

Results that stand but need a look come with a warning of a class of its own: :class:`UnsupportedTermWarning` of EMSC,
:class:`EmptySlideWarning` of an experiment.
"""

from __future__ import annotations


class MSICubeError(Exception):
    """Base of every error that msicube raises on purpose."""


class UsageError(MSICubeError, ValueError):
    """The request cannot be carried out as it was made."""


class AxisRequired(UsageError):
    """A processed source needs an axis law and none was given."""


class AxisMismatch(UsageError):
    """Slides lie on different spectral axes where one shared axis is needed."""


class MemoryLimitError(UsageError):
    """The work cannot be done inside the memory limit."""


class NoFiniteSpectrum(UsageError):
    """A fit was given no spectrum, or none without a NaN or an infinity."""


class RecipeError(UsageError):
    """A recipe holds an unknown key, misses one, or has a wrong value."""


class LeakageError(UsageError):
    """A fit was asked to see slides that are held out for testing."""


class SourceError(MSICubeError):
    """Something about a source file."""


class UnknownFormat(SourceError):
    """No reader takes this file."""


class CorruptSource(SourceError):
    """A source file contradicts itself or is damaged."""


class StoreError(MSICubeError):
    """Something about a study."""


class NotAStudy(StoreError):
    """The path holds no msicube study."""


class UnknownSlide(StoreError, KeyError):
    """The study has no slide of this name."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class SlideExists(StoreError):
    """A slide of this name is in the study already, made from another source."""


class StudyLocked(StoreError):
    """Another process is writing to this study."""


class FormatVersionError(StoreError):
    """The study or pipeline was written by a newer msicube."""


class CorruptStore(StoreError):
    """A stored object is missing, damaged, or does not follow the schema."""


class RemoteError(MSICubeError):
    """A server cannot be reached, refuses, or sends something else than it promises."""


class DownloadError(RemoteError):
    """A file did not arrive whole and as its checksum says."""


class DiskSpaceError(MSICubeError):
    """There is not enough room for what was asked."""


class NotFittedError(MSICubeError, ValueError, AttributeError):
    """An estimator was used before it was fitted."""


class MissingDependency(MSICubeError, ImportError):
    """An optional package is not installed."""


class UnsupportedTermWarning(UserWarning):
    """A column of an EMSC model has no support under the weights and was left out; the message names it."""


class EmptySlideWarning(UserWarning):
    """The masks of an experiment leave nothing of a slide, which drops out of its results; the message names it."""
