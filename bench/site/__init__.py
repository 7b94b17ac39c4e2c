"""A static site of a store: leaderboard, a page an experiment, a page an audit. Imports no torch."""
