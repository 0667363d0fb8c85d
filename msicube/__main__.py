"""``python -m msicube``, the same as ``msicube``; what ``torchrun -m msicube`` starts."""

from __future__ import annotations

from msicube.cli import main

if __name__ == "__main__":
    main()
