"""A reward that reads the policy while it writes; see `llmsmc.models.rewards.probe.probe`."""

from llmsmc.models.rewards.probe.features import FeatureFolder as FeatureFolder
from llmsmc.models.rewards.probe.features import StepFeatures as StepFeatures
from llmsmc.models.rewards.probe.probe import Probe as Probe
from llmsmc.models.rewards.probe.training import LabelledSolution as LabelledSolution
from llmsmc.models.rewards.probe.training import judged as judged
from llmsmc.models.rewards.probe.training import read_solutions as read_solutions
from llmsmc.models.rewards.probe.training import train_probe as train_probe
