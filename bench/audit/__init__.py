"""The audit: what a defence claims, and what remains when it faces the attacks that its own traits select."""
