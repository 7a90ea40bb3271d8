"""Tests of fanout/run."""
