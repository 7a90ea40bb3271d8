"""Diagnosis: find the first cause of a failed run from its events and logs."""
