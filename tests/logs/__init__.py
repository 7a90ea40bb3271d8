"""Tests of fanout/logs."""
