"""Kernels that leave a target as it is."""
