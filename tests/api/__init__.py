"""Tests of fanout/api."""
