"""Benchmarks: ``asv run`` over the history, or ``python -m benchmarks`` for one table."""
