"""Side-by-side measurements; `python -m benchmarks` runs them and writes what it measured into docs/benchmarks.md."""
