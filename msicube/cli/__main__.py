"""``python -m msicube.cli``."""

from __future__ import annotations

from msicube.cli.main import main

if __name__ == "__main__":
    main()
