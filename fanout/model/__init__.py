"""Values of a run: events, state, policy, plan, settings, hosts and errors; pure.

It imports text and the frame constants of the agent. Start in events.py, then state.py, then policy.py.
"""
