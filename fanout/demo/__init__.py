"""Demo: an SSH server in this process simulates several hosts on loopback, for users without a second machine."""
