"""Tests of exported jobs."""
