"""One contract for every transport, and what is built on it."""
