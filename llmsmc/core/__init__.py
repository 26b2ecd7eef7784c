"""What everything else is made of: weights, populations, distributions, random numbers, models."""
