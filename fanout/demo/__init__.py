"""The embedded lab: an SSH server in this process plays several hosts on loopback, for those with no machines at hand."""
