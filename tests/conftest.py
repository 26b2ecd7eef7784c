import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("llmsmc", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("llmsmc")
