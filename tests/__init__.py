"""Tests of fanout; a package so that benches can use the lab too."""
