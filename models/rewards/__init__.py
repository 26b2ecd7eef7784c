"""What says how good a step is: reward models, judges, ratios, functions."""
