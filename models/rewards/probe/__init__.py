"""A reward that reads the policy while it writes; see `llmsmc.models.rewards.probe.probe`."""
