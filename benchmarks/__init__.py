"""Measurements: ``python -m benchmarks`` or ``make bench``. Nothing in ``tests/`` is timed; here everything is."""
