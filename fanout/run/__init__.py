"""A run from launch to report: session, stop, restart, detach, takeover and diagnosis.

It may import every package below. Start in launch.py, then read session.py.
"""
