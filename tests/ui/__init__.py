"""Tests of the views: goldens on a fixed clock, and terminals that pyte reads back."""
