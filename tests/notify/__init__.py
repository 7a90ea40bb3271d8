"""Tests of messages to other programs."""
