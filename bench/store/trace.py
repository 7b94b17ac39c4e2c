"""The checkpoints of a margin trace. Imports no torch."""

TRACE_AT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 2500, 5000, 10_000)  # queries at which the margin is kept
