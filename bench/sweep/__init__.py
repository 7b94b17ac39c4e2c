"""A sweep from outside: what it will cost, and how far it is."""
