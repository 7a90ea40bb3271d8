"""What the user sees of a run: live view, plain view, JSON lines, report and HTML page.

It imports model, logs, record and text; rich is imported nowhere else. Start in display_mode.py, then live_view.py.
"""
