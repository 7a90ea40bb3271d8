"""Failures of known origin: each kind is injected into one rank or host of a real run, and the verdict is compared."""
