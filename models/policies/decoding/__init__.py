"""How a policy draws and scores tokens for many particles at a time."""
