"""Tests of the pure model: values in, values out, in milliseconds."""
