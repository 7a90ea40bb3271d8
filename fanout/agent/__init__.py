"""The agent: code that runs on the hosts (Python 3.8 or later, stdlib only), sent over ssh and loaded in memory."""
