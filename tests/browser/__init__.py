"""Pages in a real browser without a screen, driven over its debugging pipe."""
