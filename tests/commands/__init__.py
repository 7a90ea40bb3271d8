"""Tests of the commands that read the records of runs."""
