"""The views of a run: live view, plain view, JSON lines, report and HTML page.

It may import model, text, logs and record, and rich. Start in display_mode.py, then read live_view.py.
"""
