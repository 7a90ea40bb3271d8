"""Tests of fanout/preflight."""
