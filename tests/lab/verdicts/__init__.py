"""Failures of known origin: each kind injected into one rank or host of a real run, and what the verdict says of it."""
