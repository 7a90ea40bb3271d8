"""Tests of the pure rooms: values in, values out, in milliseconds."""
