"""Values of a run: events, state, policy, plan, settings, hosts and errors; pure.

It may import text only. Start in events.py, then read state.py and policy.py.
"""
