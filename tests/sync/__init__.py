"""Sync: files of a project, comparison, groups and text."""
