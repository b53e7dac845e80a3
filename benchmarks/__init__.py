"""Benchmarks: our work against a stated other way of doing it, side by side on one server. See docs/benchmarks.md."""
