"""Inference algorithms: particle filters, Markov chains, searches, resamplers and moves."""

from typing import TYPE_CHECKING

from llmsmc._lazy import lazy_exports
from llmsmc.registry import ALGORITHMS, RESAMPLERS, homes

if TYPE_CHECKING:
    from llmsmc.inference.filters.auxiliary_filter import AuxiliaryFilter as AuxiliaryFilter
    from llmsmc.inference.filters.bootstrap_filter import BootstrapFilter as BootstrapFilter
    from llmsmc.inference.filters.coalescing_filter import CoalescingFilter as CoalescingFilter
    from llmsmc.inference.filters.entropic_filter import EntropicFilter as EntropicFilter
    from llmsmc.inference.filters.guided_filter import GuidedFilter as GuidedFilter
    from llmsmc.inference.filters.island_filter import IslandFilter as IslandFilter
    from llmsmc.inference.filters.nested_filter import NestedFilter as NestedFilter
    from llmsmc.inference.filters.particle_cascade import ParticleCascade as ParticleCascade
    from llmsmc.inference.filters.rejection_filter import RejectionFilter as RejectionFilter
    from llmsmc.inference.filters.resample_move import ResampleMove as ResampleMove
    from llmsmc.inference.filters.tempered_smc import TemperedSMC as TemperedSMC
    from llmsmc.inference.filters.twisted_filter import TwistedFilter as TwistedFilter
    from llmsmc.inference.loop.algorithm import Algorithm as Algorithm
    from llmsmc.inference.mcmc.particle_gibbs import ParticleGibbs as ParticleGibbs
    from llmsmc.inference.mcmc.particle_gibbs_move import ParticleGibbsMove as ParticleGibbsMove
    from llmsmc.inference.mcmc.particle_marginal_metropolis_hastings import (
        ParticleMarginalMetropolisHastings as ParticleMarginalMetropolisHastings,
    )
    from llmsmc.inference.mcmc.smc_squared import SMC2 as SMC2
    from llmsmc.inference.moves.move import Move as Move
    from llmsmc.inference.moves.move import Moved as Moved
    from llmsmc.inference.moves.random_walk import RandomWalk as RandomWalk
    from llmsmc.inference.moves.regenerate_suffix import RegenerateSuffix as RegenerateSuffix
    from llmsmc.inference.resampling.adaptive import Adaptive as Adaptive
    from llmsmc.inference.resampling.killing import killing as killing
    from llmsmc.inference.resampling.multinomial import multinomial as multinomial
    from llmsmc.inference.resampling.optimal import optimal as optimal
    from llmsmc.inference.resampling.residual import residual as residual
    from llmsmc.inference.resampling.scheme import Resampled as Resampled
    from llmsmc.inference.resampling.scheme import Resampler as Resampler
    from llmsmc.inference.resampling.scheme import Scheme as Scheme
    from llmsmc.inference.resampling.ssp import ssp as ssp
    from llmsmc.inference.resampling.stratified import stratified as stratified
    from llmsmc.inference.resampling.systematic import systematic as systematic
    from llmsmc.inference.search.beam_search import BeamSearch as BeamSearch
    from llmsmc.inference.search.best_of_n import BestOfN as BestOfN
    from llmsmc.inference.search.diverse_verifier_tree_search import (
        DiverseVerifierTreeSearch as DiverseVerifierTreeSearch,
    )
    from llmsmc.inference.search.greedy import Greedy as Greedy
    from llmsmc.inference.search.published_particle_filter import (
        PublishedParticleFilter as PublishedParticleFilter,
    )
    from llmsmc.inference.search.self_consistency import SelfConsistency as SelfConsistency
    from llmsmc.inference.search.weighted_best_of_n import WeightedBestOfN as WeightedBestOfN

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        **homes(ALGORITHMS, RESAMPLERS),
        "llmsmc.inference.loop.algorithm": ["Algorithm"],
        "llmsmc.inference.mcmc.particle_gibbs_move": ["ParticleGibbsMove"],
        "llmsmc.inference.mcmc.particle_marginal_metropolis_hastings": [
            "ParticleMarginalMetropolisHastings"
        ],
        "llmsmc.inference.mcmc.smc_squared": ["SMC2"],
        "llmsmc.inference.moves.move": ["Move", "Moved"],
        "llmsmc.inference.moves.random_walk": ["RandomWalk"],
        "llmsmc.inference.moves.regenerate_suffix": ["RegenerateSuffix"],
        "llmsmc.inference.resampling.adaptive": ["Adaptive"],
        "llmsmc.inference.resampling.optimal": ["optimal"],
        "llmsmc.inference.resampling.scheme": ["Resampled", "Resampler", "Scheme"],
    },
)
