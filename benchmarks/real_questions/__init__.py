"""What a particle filter is worth with a real model on real questions: `docs/real_models.md`."""
