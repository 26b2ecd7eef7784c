"""Parts by name: built-in parts, parts of installed packages, and a user's own.

A name is one of three things:

* a built-in name, such as `bootstrap`;
* a name that an installed package declares as an entry point, in the group of the kind;
* a reference `package.module:Name` to something in a module of the user. The current directory is
  importable, as for `python -m`.

Built-in names come first, then references, then entry points, so that no package takes the place of
a built-in part. A module of somebody else is imported when, and only when, its name is given to
`find`: on the command line, in Python or in a plan that is run, and for conventions of installed
packages when no built-in one recognises a checkpoint; never because a file of results says so.

A built-in part is listed here and nowhere else: help texts, error messages, exports and tests are
made of these tables.
"""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from llmsmc.errors import InputError

_REFERENCE: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
_WITH_OPTIONS: Final = re.compile(rf"({_REFERENCE.pattern})(?::(.*))?", re.DOTALL)

FORM: Final = "package.module:Name"


@dataclass(frozen=True, eq=False)
class Registry(Mapping[str, Any]):
    """The parts of one kind by name; as a mapping, the built-in ones.

    Attributes:
        kind: the noun for a part, with its article, for messages.
        group: the group of entry points in which installed packages declare theirs.
        nature: the requirement on a part, for messages.
        base: the reference of the class of which parts are values; empty if that is not checked
            here.
        are_classes: whether parts are classes that derive from `base` instead.
        package: the package of the built-in parts.
        built_in: name -> reference within the package.
    """

    kind: str
    group: str
    nature: str = ""
    base: str = ""
    are_classes: bool = False
    package: str = ""
    built_in: Mapping[str, str] = field(default_factory=dict)
    _written: dict[int, tuple[Any, str]] = field(default_factory=dict, repr=False)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the built-in names."""
        return iter(self.built_in)

    def __len__(self) -> int:
        """Return the number of built-in parts."""
        return len(self.built_in)

    def __contains__(self, name: object) -> bool:
        """Return whether a name is built in."""
        return name in self.built_in

    def __getitem__(self, name: str) -> Any:
        """Return the built-in part of that name."""
        return _loaded(f"{self.package}.{self.built_in[name]}")

    @property
    def listed(self) -> str:
        """The built-in names, and the form of others, for help texts."""
        return ", ".join([*self.built_in, f"or one of your own as {FORM}"])

    def installed(self) -> dict[str, str]:
        """Return the references of installed packages by name; nothing of them is imported."""
        found = _entry_points(self.group)
        return {name: place for name, place in found.items() if name not in self.built_in}

    def check(self, name: object) -> None:
        """Raise `InputError` if `find` would; nothing built in is imported for it."""
        if name not in self.built_in:
            self.find(name)

    def find(self, name: object) -> Any:
        """Return the part of that name, imported.

        Raises:
            InputError: there is no such part, its module cannot be imported, or it is something
                else than such a part; says why.
        """
        if isinstance(name, str) and name in self.built_in:
            return self[name]
        if isinstance(name, str) and is_reference(name):
            part = _imported(self.kind, name)
        elif isinstance(name, str) and name in (installed := self.installed()):
            part = _imported(self.kind, name, installed[name])
        else:
            names = ", ".join(repr(each) for each in (*self.built_in, *self.installed()))
            raise InputError(
                f"{self.kind} is known by a name. Got {name!r}; accepted: "
                f"{f'{names}, or ' if names else ''}one of your own as {FORM}."
            )
        self._require_part(name, part)
        self._written.setdefault(id(part), (part, name))
        return part

    def _require_part(self, name: str, found: Any) -> None:
        if not self.base:
            return
        base = _loaded(self.base)
        is_class = isinstance(found, type)
        if is_class != self.are_classes or not (issubclass if is_class else isinstance)(
            found, base
        ):
            what = f"the class {found.__name__}" if is_class else f"a {type(found).__name__}"
            raise InputError(
                f"{self.kind} is {self.nature}. Got {name!r}, which is {what}; accepted: such a "
                f"{'class' if self.are_classes else 'value'} as {FORM}."
            )

    def name_of(self, part: Any) -> str:
        """Return how a part is written: its built-in name, or the name by which it was found.

        A part that was never looked for is named by where it is defined.
        """
        for name, reference in self.built_in.items():
            module, _, attribute = f"{self.package}.{reference}".partition(":")
            if getattr(sys.modules.get(module), attribute, None) is part:
                return name
        if id(part) in self._written:
            return self._written[id(part)][1]
        return defined_at(part)


def is_reference(text: str) -> bool:
    """Return whether a text has the form `package.module:Name`.

    >>> is_reference("mypackage.mine:MyFilter"), is_reference("bootstrap:resampler=ssp")
    (True, False)
    """
    return _REFERENCE.fullmatch(text) is not None


def split_options(registry: Registry, text: str) -> tuple[str, str]:
    """Return the name and the options of `NAME[:OPTIONS]`, where the name may be a reference.

    The text before the first colon is a name if there is such a built-in part.

    >>> split_options(ALGORITHMS, "bootstrap:resampler=mypackage.mine:scheme")
    ('bootstrap', 'resampler=mypackage.mine:scheme')
    >>> split_options(ALGORITHMS, "mypackage.mine:MyFilter:num_particles=8")
    ('mypackage.mine:MyFilter', 'num_particles=8')
    """
    name, _, options = text.partition(":")
    found = _WITH_OPTIONS.fullmatch(text)
    if name in registry.built_in or found is None:
        return name, options
    return found[1], found[2] or ""


def defined_at(part: Any) -> str:
    """Return where a function or a class is defined; anything else as it is shown.

    Addresses in memory, which differ from run to run, are left out.

    >>> defined_at(is_reference)
    'llmsmc.registry:is_reference'
    """
    if hasattr(part, "__qualname__"):
        return f"{part.__module__}:{part.__qualname__}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(part))


def homes(*registries: Registry) -> dict[str, list[str]]:
    """Return the modules of the built-in parts with the names that are defined there."""
    found: dict[str, list[str]] = {}
    for registry in registries:
        for reference in registry.built_in.values():
            module, _, name = f"{registry.package}.{reference}".partition(":")
            found.setdefault(module, []).append(name)
    return found


@cache
def _entry_points(group: str) -> dict[str, str]:
    from importlib.metadata import entry_points  # slow, and of no use to most commands

    return {point.name: point.value for point in entry_points(group=group)}


def _loaded(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def _imported(kind: str, given: str, reference: str | None = None) -> Any:
    """Return the object that a reference names.

    Raises:
        InputError: the module cannot be imported, or has nothing of that name.
    """
    name_of_module, _, path = (reference or given).partition(":")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # the file may be a moment old
    try:
        module = importlib.import_module(name_of_module)
    except (Exception, SystemExit) as error:  # of whatever the module does
        raise InputError(
            f"{kind} is in a module that cannot be imported ({_reason(error)}). Got {given!r}; "
            f"accepted: {FORM}, of a module in the current directory or of an installed package."
        ) from error
    found = module
    for name in filter(None, path.split(".")):
        if not hasattr(found, name):
            raise InputError(
                f"The module {name_of_module} has nothing of that name. Got {given!r}; accepted: "
                f"{', '.join(_own_names(module)[:20]) or 'nothing, it is empty'}."
            )
        found = getattr(found, name)
    return found


def _own_names(module: ModuleType) -> list[str]:
    """Return the public names of a module that it has not imported, as far as they show it."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and (not hasattr(value, "__qualname__") or value.__module__ == module.__name__)
    ]


def _reason(error: BaseException) -> str:
    """Return the message of an error, with the file and the line that raised it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename != importlib.__file__
    ]
    last = frames[-1]
    place = "" if last.filename == __file__ else f", {Path(last.filename).name}:{last.lineno}"
    return f"{type(error).__name__}: {error}{place}"


ALGORITHMS: Final = Registry(
    "An algorithm",
    "llmsmc.algorithms",
    "a dataclass that derives from llmsmc.inference.Algorithm",
    "llmsmc.inference.loop.algorithm:Algorithm",
    are_classes=True,
    package="llmsmc.inference",
    built_in={
        "greedy": "search.greedy:Greedy",
        "self-consistency": "search.self_consistency:SelfConsistency",
        "best-of-n": "search.best_of_n:BestOfN",
        "weighted-best-of-n": "search.weighted_best_of_n:WeightedBestOfN",
        "beam-search": "search.beam_search:BeamSearch",
        "dvts": "search.diverse_verifier_tree_search:DiverseVerifierTreeSearch",
        "bootstrap": "filters.bootstrap_filter:BootstrapFilter",
        "guided": "filters.guided_filter:GuidedFilter",
        "auxiliary": "filters.auxiliary_filter:AuxiliaryFilter",
        "twisted": "filters.twisted_filter:TwistedFilter",
        "resample-move": "filters.resample_move:ResampleMove",
        "tempered": "filters.tempered_smc:TemperedSMC",
        "particle-gibbs": "mcmc.particle_gibbs:ParticleGibbs",
        "islands": "filters.island_filter:IslandFilter",
        "coalescing": "filters.coalescing_filter:CoalescingFilter",
        "cascade": "filters.particle_cascade:ParticleCascade",
        "entropic": "filters.entropic_filter:EntropicFilter",
        "nested": "filters.nested_filter:NestedFilter",
        "rejection": "filters.rejection_filter:RejectionFilter",
        "published": "search.published_particle_filter:PublishedParticleFilter",
    },
)

RESAMPLERS: Final = Registry(
    "A resampler",
    "llmsmc.resamplers",
    "a Scheme, or a function of log-weights",
    "llmsmc.inference.resampling.scheme:Resampler",
    package="llmsmc.inference.resampling",
    built_in={
        "multinomial": "multinomial:multinomial",
        "residual": "residual:residual",
        "stratified": "stratified:stratified",
        "systematic": "systematic:systematic",
        "ssp": "ssp:ssp",
        "killing": "killing:killing",
    },
)

AGGREGATIONS: Final = Registry(
    "An aggregation",
    "llmsmc.aggregations",
    "a value of llmsmc.models.rewards.aggregation.Aggregation",
    "llmsmc.models.rewards.aggregation:Aggregation",
    package="llmsmc.models.rewards",
    built_in={
        "product": "aggregation:PRODUCT",
        "last": "aggregation:LAST",
        "min": "aggregation:MIN",
        "model": "aggregation:MODEL",
        "odds": "aggregation:ODDS",
        "exp": "aggregation:EXP",
    },
)

REWARDS: Final = Registry("A reward function", "llmsmc.rewards")
"""Functions of a question and the list of its steps; reward models have names of their own."""

CONVENTIONS: Final = Registry(
    "A convention of a reward model",
    "llmsmc.conventions",
    "a class with the methods of llmsmc.models.rewards.conventions.convention.Convention",
    "llmsmc.models.rewards.conventions.convention:Convention",
    are_classes=True,
    package="llmsmc.models.rewards.conventions",
    built_in={
        "qwen": "qwen:QwenConvention",
        "math-shepherd": "math_shepherd:MathShepherdConvention",
        "rlhflow": "rlhflow:RlhflowConvention",
        "skywork": "skywork:SkyworkConvention",
        "versa": "versa:VersaConvention",
        "trl": "trl:TrlConvention",
        "pqm": "pqm:PqmConvention",
        "pure": "pure:PureConvention",
    },
)

STEP_RULES: Final = Registry(
    "A step rule",
    "llmsmc.step_rules",
    "a value with the method automaton(pieces)",
    "llmsmc.models.text.stopping:StepRule",
)
"""Values with the methods of `StepRule`; the built-in ones have a notation of their own."""

DATASETS: Final = Registry(
    "A data set",
    "llmsmc.datasets",
    package="llmsmc.evaluation",
    built_in={
        "minimath-train": "datasets:minimath_train",
        "minimath-dev": "datasets:minimath_dev",
        "minimath-500": "datasets:minimath_500",
        "math500": "hub_datasets:MATH500",
        "aime24": "hub_datasets:AIME24",
        "aime25": "hub_datasets:AIME25",
        "gsm8k": "hub_datasets:GSM8K",
    },
)
"""Functions without arguments that return rows; or rows."""
