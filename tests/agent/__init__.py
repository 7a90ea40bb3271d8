"""Tests of what runs on the hosts, against real keepers and relays on this machine."""
