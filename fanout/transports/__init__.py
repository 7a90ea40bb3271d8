"""Transports: run one command on a host and return a channel of bytes."""
