"""Benchmarks: compare fanout with similar tools. They are not part of the tests. See README.md in this directory."""
