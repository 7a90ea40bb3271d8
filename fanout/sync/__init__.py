"""Sync: which files make up a project, how they compare with those of the hosts, and what the user sees of it.

It may import model and text. Start in manifest.py, then read project_files.py.
"""
