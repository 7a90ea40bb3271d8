"""The edge to the hosts: a command goes in, a channel of bytes comes out."""
