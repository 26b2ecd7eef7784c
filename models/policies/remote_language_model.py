"""A language model behind a server, in the place of one in this process.

Prompts are rendered here and sent as ids, and ids come back: the state of a particle is the same as
with `LanguageModel`. Only the new step is asked for; what stands before it the server has cached.
Where a step ends is decided here, by the automaton of the rule: the server is told a stop text so
that it does not draw more than that, what it has drawn beyond is cut off, and where it has stopped
too early it is asked to go on. The law of a step is that of the local engine.

Each particle has a seed of its own at each step, made from the random numbers of the run. A
particle that the server cannot go on with has failed: its weight is zero, and the others go on.

Shapes: B particles, L generated tokens.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from llmsmc.core.cost import Cost
from llmsmc.errors import InputError, ServerError
from llmsmc.models.caches.rows import CacheRows, padded_rows
from llmsmc.models.policies.decoding.requests import (
    ScoreRequest,
    StepRequest,
    StepTokens,
    TokenScores,
    UniformTable,
)
from llmsmc.models.policies.policy import Demands
from llmsmc.models.policies.requirements import missing, require
from llmsmc.models.pretrained.loading import load_config, load_tokenizer, resolve
from llmsmc.models.servers.chat import ByteVocabulary, Chat
from llmsmc.models.servers.client import MAX_ANSWER_BYTES, TIMEOUT, Client
from llmsmc.models.servers.engine import Capabilities, ScoringEngine
from llmsmc.models.servers.probe import probe
from llmsmc.models.servers.rows import Limits, PendingStep, draw_rows
from llmsmc.models.text.chat import prompt_ids
from llmsmc.models.text.fences import FencedAutomaton
from llmsmc.models.text.stopping import CountAutomaton, Resumable, StepAutomaton, StepRule
from llmsmc.models.text.thinking import Thinking
from llmsmc.models.text.vocabulary import TokenizerVocabulary, eos_ids_of

UNBOUNDED: Final = 2**31  # tokens of a context of which nothing is known


class RemoteLanguageModel:
    """A language model that vLLM, SGLang, llama.cpp or another server runs.

    Attributes:
        name: of the model.
        address: of the server.
        capabilities: what the server can do, as found out when this was made.
        context_length: number of tokens that prompt and answer may have.
        eos_ids: the ids that end a text.
        tokens: its vocabulary.
        quantization: None: the server does not say.
    """

    quantization = None
    device = torch.device("cpu")
    masks = False

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        tokenizer: str | None = None,
        context_length: int | None = None,
        repeatable: bool = False,
        api_key: str | None = None,
        timeout: float | int = TIMEOUT,
        retry_for: float | int | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        max_connections: int = 64,
    ) -> None:
        """Ask the server what it is, and load the tokenizer.

        Args:
            base_url: the address, such as "http://localhost:8000/v1".
            model: its name on the server; not needed if that has a single one.
            tokenizer: the embedded name, folder or name on the hub of a checkpoint with the same
                tokenizer; by default the name of the model.
            context_length: number of tokens of the context, if the server does not say it.
            repeatable: whether a server on which a seed does not repeat a run is refused.
            api_key: sent to this address alone; shown nowhere and never written.
            timeout: seconds that one try may take, to the last byte of the answer.
            retry_for: seconds for which a request that gets no answer is tried again (600);
                a server may be started anew in this time. What asks to be left alone for longer
                is not tried again.
            max_answer_bytes: how large an answer may be, as it is sent and as it is unpacked.
            max_connections: number of requests under way at once.

        Raises:
            InputError: the address, the model or the tokenizer cannot be used, or the server
                lacks something that was asked for.
            ServerError: nothing answers there.
        """
        self._client = Client(
            base_url,
            api_key=api_key,
            timeout=timeout,
            retry_for=retry_for,
            max_answer_bytes=max_answer_bytes,
            max_connections=max_connections,
        )
        found = probe(self._client, model)
        self.address, self.name = self._client.root, found.model or str(tokenizer)
        self.capabilities: Capabilities = found.capabilities
        self._engine = found.engine
        if repeatable and not self.capabilities.seeds:
            accepted = "a server on which they count (SGLang: --enable-deterministic-inference)"
            raise missing("seeds", self.capabilities, self.address, accepted)
        self.tokens: TokenizerVocabulary | ByteVocabulary
        self.eos_ids: tuple[int, ...]
        if isinstance(self._engine, Chat):
            self.tokens, self.eos_ids = ByteVocabulary(), ()
            known: int | None = None
        else:
            source, plain = _tokenizer(self.name if tokenizer is None else tokenizer)
            config = _found(lambda: load_config(source))
            generation = _found(lambda: GenerationConfig.from_pretrained(source))
            self.eos_ids = eos_ids_of(config, generation, plain)
            size = 0 if config is None else int(config.get_text_config().vocab_size)
            self.tokens = TokenizerVocabulary(plain, max(size, len(plain)), ends=self.eos_ids)
            known = self.capabilities.context_length or _built_for(config)
        self.context_length = context_length or known or UNBOUNDED

    def __repr__(self) -> str:
        """Show which model it is, and where."""
        engine = self.capabilities.engine
        return f"RemoteLanguageModel({self.address!r}, {self.name!r}, engine={engine!r})"

    def close(self) -> None:
        """Close the connections; nothing can be asked any more."""
        self._client.close()

    @property
    def whole_answers_only(self) -> bool:
        """Whether answers cannot be continued, since no ids go in and out."""
        return isinstance(self._engine, Chat)

    def check(self, demands: Demands) -> None:
        """Raise `InputError`, which names what the server lacks, if it cannot do what is asked."""
        require(demands, self.capabilities, self.address)
        if demands.rule is not None:
            self._followed(demands.rule)

    def prompt_ids(
        self, question: str, system: str | None = None, thinking: Thinking | None = None
    ) -> tuple[int, ...]:
        """Return the ids of the chat that asks the question, up to where the answer begins."""
        if isinstance(self.tokens, ByteVocabulary):
            return self.tokens.prompt_ids(question, system)
        tokenizer, room = self.tokens.tokenizer, self.context_length
        return prompt_ids(tokenizer, question, system, room, self.name, thinking)

    def sample_step(self, request: StepRequest) -> tuple[StepTokens, Cost]:
        """Draw one step for each of B particles; see `llmsmc.models.policies.policy.Policy`.

        Where the server does not say a log-probability, it is NaN.
        """
        begun = time.perf_counter()
        if request.constraint is not None:
            what = "draws from what a constraint leaves of its law"
            raise missing(what, self.capabilities, self.address, "a LanguageModel")
        if request.starts is not None or request.forced is not None:
            what = "steps that begin within something, or in which tokens are forced"
            raise missing(what, self.capabilities, self.address, "a LanguageModel")
        self.check(Demands(rule=request.rule, temperature=request.temperature))
        automaton = self._followed(request.rule)
        limits = Limits.of(
            request.rule,
            automaton,
            self.tokens.pieces,
            self.eos_ids,
            request.max_tokens,
            request.temperature,
            whole=self.whole_answers_only,
            log_probs=self.capabilities.log_probs is not None,
        )
        starts = automaton.start(len(request))
        if isinstance(automaton, Resumable):
            starts = automaton.behind(request.token_ids, request.num_tokens)
        rows = [
            PendingStep(ids, room, seed, start)
            for ids, room, seed, start in zip(
                _texts(request),
                request.room(self.context_length).tolist(),
                self._seeds(request.uniforms, request.numbers),
                starts.tolist(),
                strict=True,
            )
        ]
        self._client.run(draw_rows(self._client, self._engine, rows, limits))
        cost = Cost(policy_seconds=time.perf_counter() - begun)
        for row in rows:
            cost += row.cost
        return self._step_tokens(rows, request.temperature), cost

    def score_tokens(self, request: ScoreRequest) -> tuple[TokenScores, Cost]:
        """Score given tokens; see `llmsmc.models.policies.policy.Policy`.

        Those of a text that the server does not score have probability zero.

        Raises:
            InputError: the server does not score tokens that it is given.
            ServerError: it scores none of the texts.
        """
        begun = time.perf_counter()
        self.check(Demands(temperature=request.temperature, token_scores=True))
        engine = self._engine
        assert isinstance(engine, ScoringEngine)
        texts = _texts(request)
        distinct = list(dict.fromkeys(texts))
        answers = self._client.post_all(
            engine.path,
            [engine.score_body(ids) for ids in distinct],
            [partial(engine.read_scores, ids=ids) for ids in distinct],
        )
        errors = [answer for answer in answers if isinstance(answer, ServerError)]
        if errors and len(errors) == len(answers):
            raise errors[0]
        scored = {
            ids: [-math.inf] * (len(ids) - 1) if isinstance(answer, ServerError) else answer
            for ids, answer in zip(distinct, answers, strict=True)
        }
        failed = {
            ids: answer
            for ids, answer in zip(distinct, answers, strict=True)
            if isinstance(answer, ServerError)
        }
        rows = [
            scored[ids][len(request.prompt_ids) + start - 1 :]
            for ids, start in zip(texts, request.starts.tolist(), strict=True)
        ]
        log_probs, _ = padded_rows(rows, torch.float64)
        positions = sum(len(ids) for ids in distinct)
        cost = Cost(
            policy_positions=positions,
            prompt_tokens=positions,
            model_calls=len(distinct),
            policy_seconds=time.perf_counter() - begun,
        )
        cost += Cost.of_failures(failed[ids] for ids in texts if ids in failed)
        return TokenScores(log_probs, log_probs, CacheRows.none(len(rows))), cost

    def _followed(self, rule: StepRule) -> StepAutomaton | CountAutomaton | FencedAutomaton:
        """Return the rule compiled to what can be followed beside a server.

        Raises:
            InputError: it is compiled to something else.
        """
        automaton = self.tokens.automaton(rule)
        if isinstance(automaton, StepAutomaton | CountAutomaton | FencedAutomaton):
            return automaton
        what = f"steps that end where {type(rule).__name__} says"
        accepted = "a rule whose automaton is a StepAutomaton or a CountAutomaton"
        raise missing(what, self.capabilities, self.address, accepted)

    def _step_tokens(self, rows: Sequence[PendingStep], temperature: float | int) -> StepTokens:
        """Return what has been drawn, with every log-probability in the place of its kind."""
        token_ids, counts = padded_rows([row.ids for row in rows])
        given, _ = padded_rows([row.log_probs for row in rows], torch.float64)
        drawn = torch.arange(token_ids.shape[1]) < counts[:, None]
        unknown = torch.full_like(given, math.nan).where(drawn, 0.0)
        raw = given if self.capabilities.gives("raw", temperature) else unknown
        transition = given if self.capabilities.gives("tempered", temperature) else unknown
        if temperature == 0:
            transition = torch.zeros_like(given)
        return StepTokens(
            token_ids=token_ids,
            num_tokens=counts,
            log_probs=raw,
            transition_log_probs=transition,
            proposal_log_probs=transition,
            stop_reasons=torch.tensor([row.reason for row in rows], dtype=torch.long),
            handle=CacheRows.none(len(rows)),
            error=next((row.error for row in rows if row.error is not None), None),
        )

    def _seeds(self, uniforms: UniformTable | None, particles: Tensor) -> list[int]:
        """Return a seed for each row; no two are the same."""
        if uniforms is None:
            return [0] * len(particles)
        numbers = uniforms.column(0)[particles].tolist()
        seeds: dict[int, None] = {}
        for number in numbers:
            seed = int(number * self._engine.num_seeds)
            while seed in seeds:
                seed = (seed + 1) % self._engine.num_seeds
            seeds[seed] = None
        return list(seeds)


def _texts(request: StepRequest | ScoreRequest) -> list[tuple[int, ...]]:
    """Return the ids of the prompt and of what follows it, for each particle."""
    counts = request.num_tokens.tolist()
    return [
        (*request.prompt_ids, *ids[:count])
        for ids, count in zip(request.token_ids.tolist(), counts, strict=True)
    ]


def _tokenizer(name: str) -> tuple[str, PreTrainedTokenizerBase]:
    """Return where a tokenizer is, and the tokenizer.

    Raises:
        InputError: there is none of that name.
    """
    try:
        source = resolve(name)
        return source, load_tokenizer(source)
    except InputError as error:
        raise InputError(
            "Prompts are rendered here, which takes the tokenizer of the model on the server: "
            f"tokenizer=, or --policy-tokenizer. {error}"
        ) from error


def _found(load: Callable[[], Any]) -> Any:
    """Return a part of a checkpoint, None if it is not there or unknown: the server has it all."""
    try:
        return load()
    except (OSError, ValueError, KeyError):
        return None


def _built_for(config: Any) -> int | None:
    """Return the number of positions that a checkpoint names."""
    length = None
    if config is not None:
        length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) else None
