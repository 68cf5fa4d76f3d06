"""Benchmarks: like work, side by side, in one run. `make bench` prints the tables of docs/benchmarks.md."""
