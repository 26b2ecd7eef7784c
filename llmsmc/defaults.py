"""Default values of the entry points; a module that imports nothing."""

from typing import Final

DEFAULT_ALGORITHM: Final = "bootstrap"
DEFAULT_POLICY: Final = "minimath-policy"
DEFAULT_REWARD: Final = "minimath-reward"
DEFAULT_QUANTIZATION: Final = "none"
DEFAULT_PROPOSAL: Final = "nf4"
DEFAULT_NUM_PARTICLES: Final = 32
DEFAULT_SELECTION: Final = "mode"
DEFAULT_SEED: Final = 0
DEFAULT_AGGREGATION: Final = "product"
DEFAULT_TEMPERATURE: Final = 1.0
DEFAULT_MAX_STEPS: Final = 40
DEFAULT_MAX_TOKENS_PER_STEP: Final = 512
DEFAULT_STEP: Final = "\n\n"
DEFAULT_STEP_TEXT: Final = r"\n\n"  # the same as it is written on the command line
DEFAULT_IN_FLIGHT: Final = 8
DEFAULT_ANSWER_FORMS: Final = ("boxed", "hashes")
