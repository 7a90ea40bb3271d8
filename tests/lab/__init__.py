"""A lab of real machines in miniature: one sshd per host, each host in namespaces of its own, on a network that leads nowhere."""
