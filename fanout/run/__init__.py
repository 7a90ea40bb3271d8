"""A run from launch to report: session, stop, restart, detach, takeover and diagnosis.

It imports every package below it. Start in launch.py, then session.py.
"""
