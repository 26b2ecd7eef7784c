"""How it is inferred: one algorithm a file, the resamplers, the search baselines."""

from typing import TYPE_CHECKING

from llmsmc._lazy import lazy_exports

if TYPE_CHECKING:
    from llmsmc.inference.adaptive import Adaptive as Adaptive
    from llmsmc.inference.algorithm import Algorithm as Algorithm
    from llmsmc.inference.auxiliary_filter import AuxiliaryFilter as AuxiliaryFilter
    from llmsmc.inference.beam_search import BeamSearch as BeamSearch
    from llmsmc.inference.best_of_n import BestOfN as BestOfN
    from llmsmc.inference.bootstrap_filter import BootstrapFilter as BootstrapFilter
    from llmsmc.inference.coalescing_filter import CoalescingFilter as CoalescingFilter
    from llmsmc.inference.diverse_verifier_tree_search import (
        DiverseVerifierTreeSearch as DiverseVerifierTreeSearch,
    )
    from llmsmc.inference.entropic_filter import EntropicFilter as EntropicFilter
    from llmsmc.inference.greedy import Greedy as Greedy
    from llmsmc.inference.guided_filter import GuidedFilter as GuidedFilter
    from llmsmc.inference.island_filter import IslandFilter as IslandFilter
    from llmsmc.inference.killing_resampler import killing as killing
    from llmsmc.inference.move import Move as Move
    from llmsmc.inference.move import Moved as Moved
    from llmsmc.inference.optimal_resampler import optimal as optimal
    from llmsmc.inference.particle_cascade import ParticleCascade as ParticleCascade
    from llmsmc.inference.particle_gibbs import ParticleGibbs as ParticleGibbs
    from llmsmc.inference.particle_gibbs_move import ParticleGibbsMove as ParticleGibbsMove
    from llmsmc.inference.particle_marginal_metropolis_hastings import (
        ParticleMarginalMetropolisHastings as ParticleMarginalMetropolisHastings,
    )
    from llmsmc.inference.published_particle_filter import (
        PublishedParticleFilter as PublishedParticleFilter,
    )
    from llmsmc.inference.random_walk import RandomWalk as RandomWalk
    from llmsmc.inference.regenerate_suffix import RegenerateSuffix as RegenerateSuffix
    from llmsmc.inference.resample_move import ResampleMove as ResampleMove
    from llmsmc.inference.resamplers import Resampled as Resampled
    from llmsmc.inference.resamplers import Resampler as Resampler
    from llmsmc.inference.resamplers import multinomial as multinomial
    from llmsmc.inference.resamplers import residual as residual
    from llmsmc.inference.resamplers import stratified as stratified
    from llmsmc.inference.resamplers import systematic as systematic
    from llmsmc.inference.self_consistency import SelfConsistency as SelfConsistency
    from llmsmc.inference.smc_squared import SMC2 as SMC2
    from llmsmc.inference.ssp_resampler import ssp as ssp
    from llmsmc.inference.tempered_smc import TemperedSMC as TemperedSMC
    from llmsmc.inference.twisted_filter import TwistedFilter as TwistedFilter
    from llmsmc.inference.weighted_best_of_n import WeightedBestOfN as WeightedBestOfN

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "llmsmc.inference.adaptive": ["Adaptive"],
        "llmsmc.inference.algorithm": ["Algorithm"],
        "llmsmc.inference.auxiliary_filter": ["AuxiliaryFilter"],
        "llmsmc.inference.beam_search": ["BeamSearch"],
        "llmsmc.inference.best_of_n": ["BestOfN"],
        "llmsmc.inference.bootstrap_filter": ["BootstrapFilter"],
        "llmsmc.inference.coalescing_filter": ["CoalescingFilter"],
        "llmsmc.inference.diverse_verifier_tree_search": ["DiverseVerifierTreeSearch"],
        "llmsmc.inference.entropic_filter": ["EntropicFilter"],
        "llmsmc.inference.greedy": ["Greedy"],
        "llmsmc.inference.guided_filter": ["GuidedFilter"],
        "llmsmc.inference.island_filter": ["IslandFilter"],
        "llmsmc.inference.killing_resampler": ["killing"],
        "llmsmc.inference.move": ["Move", "Moved"],
        "llmsmc.inference.optimal_resampler": ["optimal"],
        "llmsmc.inference.particle_cascade": ["ParticleCascade"],
        "llmsmc.inference.particle_gibbs": ["ParticleGibbs"],
        "llmsmc.inference.particle_gibbs_move": ["ParticleGibbsMove"],
        "llmsmc.inference.particle_marginal_metropolis_hastings": [
            "ParticleMarginalMetropolisHastings"
        ],
        "llmsmc.inference.published_particle_filter": ["PublishedParticleFilter"],
        "llmsmc.inference.random_walk": ["RandomWalk"],
        "llmsmc.inference.regenerate_suffix": ["RegenerateSuffix"],
        "llmsmc.inference.resample_move": ["ResampleMove"],
        "llmsmc.inference.resamplers": [
            "Resampled",
            "Resampler",
            "multinomial",
            "residual",
            "stratified",
            "systematic",
        ],
        "llmsmc.inference.self_consistency": ["SelfConsistency"],
        "llmsmc.inference.smc_squared": ["SMC2"],
        "llmsmc.inference.ssp_resampler": ["ssp"],
        "llmsmc.inference.tempered_smc": ["TemperedSMC"],
        "llmsmc.inference.twisted_filter": ["TwistedFilter"],
        "llmsmc.inference.weighted_best_of_n": ["WeightedBestOfN"],
    },
)
