"""The experiments on simulated studies: ``python -m benchmarks.experiments``, or ``make experiments``.

:mod:`~benchmarks.experiments.table` says what is run, and that is the only place to change for another experiment.
"""
