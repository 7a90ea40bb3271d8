"""What runs on the hosts: stdlib only, Python 3.8 or later, sent over the wire and loaded in memory."""
