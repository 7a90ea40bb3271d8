"""Real answers, frames and records of hosts, changed at random: nothing that a host sends may end the launcher."""
