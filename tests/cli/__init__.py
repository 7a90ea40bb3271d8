"""Tests of fanout/cli."""
