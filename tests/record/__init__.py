"""Tests of fanout/record."""
