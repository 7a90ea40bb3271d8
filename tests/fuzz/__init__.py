"""Fuzzing with real answers, frames and records of hosts, changed at random: no input of a host may end the launcher."""
