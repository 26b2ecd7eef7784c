"""MCMC moves: kernels that leave a target invariant."""
