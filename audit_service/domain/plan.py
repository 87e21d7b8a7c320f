"""A plan: everything that decides the numbers, fixed and hashed before the first of them is seen."""

from enum import StrEnum
from functools import cached_property
from typing import Annotated

from pydantic import Field

from audit_service.domain.behaviors import Behavior
from audit_service.domain.budget import Budget
from audit_service.domain.manifest import Frozen, digest
from audit_service.domain.readings import DEFAULT, LOGITS, PREFIXES, MetricDefinition
from audit_service.domain.sites import ALL, KV_KINDS, Site, SiteKind, site_grid


class Direction(StrEnum):
    """Clean is the reference prompt, corrupt the comparison prompt."""

    DENOISE = "denoise"
    """Corrupt run, clean activation put in: tests sufficiency."""
    NOISE = "noise"
    """Clean run, corrupt activation put in: tests necessity."""


class Corruption(StrEnum):
    """What stands on the corrupt side of a trace; all but the pair are sensitivity analyses (METHOD.md section 4)."""

    PAIR = "pair"
    """The comparison prompt: symmetric replacement of the cue."""
    GAUSSIAN = "gaussian"
    """The reference prompt with noise of three standard deviations on its cues' embeddings; the mean of some draws."""
    RESAMPLE = "resample"
    """The comparison prompt of another pair of the form, drawn by seed."""
    MEAN = "mean"
    """Activations averaged over all positions of several prompts."""
    POSITIONAL_MEAN = "positional_mean"
    """The same at each position, of prompts of one length."""
    ZERO = "zero"
    """Activations set to zero."""


ABLATIONS = frozenset({Corruption.MEAN, Corruption.POSITIONAL_MEAN, Corruption.ZERO})
"""Corruptions without a corrupt run: there is nothing to restore, so plans trace them by noising alone."""


class Mapping(StrEnum):
    """Which token of the donor's segment replaces which of the recipient's, where their lengths differ."""

    RIGHT_ALIGNED = "right_aligned"
    """Last to last, and so on backwards; the longer segment's surplus on the left takes no part."""
    EQUAL_ONLY = "equal_only"
    """None of a token: only pairs whose cues have equally many tokens on both sides are traced."""


class ModelIdentity(Frozen):
    """The exact artefact: weights, tokenizer, chat template, configuration, dtype."""

    name: str
    version: str
    digest: str
    """SHA-256 over the sorted list of (file name, SHA-256 of the file)."""
    dtype: str
    architecture: str
    """The class name in config.json, such as LlamaForCausalLM."""
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int | None = Field(default=None, ge=1, exclude_if=lambda count: count is None)
    """Heads of keys and values, fewer than ``heads`` where queries share them; None in versions that were registered
    before they were counted, and in plans that exchange neither."""
    parameters: int = Field(ge=1)
    files: dict[str, str]
    """File name → SHA-256."""
    chat_template_digest: str | None = None

    def heads_of(self, kind: SiteKind) -> int:
        """How many heads a kind of head sites has."""
        return self.kv_heads or self.heads if kind in KV_KINDS else self.heads


class Tracing(Frozen):
    """Which pairs are patched, where and in which directions."""

    kinds: tuple[SiteKind, ...] = (SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.Z)
    segments: tuple[str, ...] = ("cue", "after", "decision")
    """Positions before the first difference cannot carry an effect and are not patched."""
    head_segments: tuple[str, ...] = (ALL,)
    directions: tuple[Direction, ...] = (Direction.DENOISE, Direction.NOISE)
    corruptions: tuple[Corruption, ...] = Field(default=(Corruption.PAIR,), min_length=1)
    noise_draws: int = Field(default=4, ge=1, le=100)
    """Draws of Gaussian noise per pair."""
    windows: tuple[int, ...] = (1,)
    """Widths, in neighbouring layers, of attention and MLP outputs that are exchanged at once."""
    layer_steps: dict[SiteKind, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, exclude_if=lambda steps: not steps
    )
    """Kind → every how manyeth layer is patched, from the first on; all of them for kinds without a step."""
    joint_sites: int = Field(default=0, ge=0, le=10)
    """Leading sites of each form that are also exchanged two by two, to see how they work together; 0 for none. They
    lead in one half of the traced clusters and are exchanged together in the other, so that choosing biases nothing."""
    all_readouts: bool = False
    """Also keep each patched run's probabilities, divergences and rank, at the price of the whole unembedding; metrics
    that need them are otherwise read at the decision alone."""
    mapping: Mapping = Mapping.RIGHT_ALIGNED
    pairs_per_form: int = Field(default=12, ge=1)
    """Contrast pairs that are traced in each form, drawn by seed, every cluster once before any twice."""
    placebo_pairs_per_form: int = Field(default=2, ge=0)
    seed: int = 0

    def draws(self, corruption: Corruption | None) -> int:
        """How often a pair is traced under the corruption; None is that of decisions."""
        return self.noise_draws if corruption is Corruption.GAUSSIAN else 1


class Unit(StrEnum):
    """What is resampled, and so what is taken to be independent."""

    CLUSTER = "cluster"
    """Template x cue pair: the unit of the verdict."""
    CUES = "cues"
    """The cue pair over all templates: sensitivity analysis."""


class Robustness(Frozen):
    """The other specifications under which the verdict is given again, to say how far it depends on ours."""

    units: tuple[Unit, ...] = tuple(Unit)
    prompt_resamples: int = Field(default=10, ge=0)
    """Random parts of the clusters, besides all of them."""
    kept_share: float = Field(default=0.8, gt=0, lt=1)
    """Share of the clusters in each part."""


class Pilot(Frozen):
    """How much the gaps of clusters vary, as far as it is known before the run; the size of the run rests on it."""

    spread_nats: float = Field(gt=0, allow_inf_nan=False)
    """Standard deviation of the clusters' mean gaps."""
    source: str = Field(min_length=1)
    """The pilot or earlier run that it comes from."""


class Judging(Frozen):
    """How the numbers become a verdict."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    delta_nats: float = Field(gt=0, allow_inf_nan=False)
    """Equivalence margin of the mean paired gap."""
    resamples: int = Field(default=10_000, ge=1_000)
    seed: int = 0
    robustness: Robustness = Robustness()
    pilot: Pilot | None = None
    comparisons_elsewhere: int = Field(default=0, ge=0, le=10_000, exclude_if=lambda count: count == 0)
    """Comparisons of other behaviors that answer the same question: Holm's correction counts them too. Left out where
    there are none, so that plans from before it keep the digests that they were stored under."""


class Scope(Frozen):
    """How a budget narrowed what was asked for, decided before any effect was seen (domain.ladder)."""

    budget: Budget
    asked: Tracing
    """All that was to be patched if the budget allowed it."""
    left_out: tuple[str, ...]
    """What of it was left out, in the order in which it would have come."""


class PairSetIdentity(Frozen):
    name: str
    digest: str
    pairs: int
    unequal_spans: float | None = None
    """Share of the pairs whose cues have more of the model's tokens on one side; None if nobody asked its tokenizer."""


class Plan(Frozen):
    """Model x behavior x pairs x sites x rules. Changing any of it makes another plan with another hash."""

    model: ModelIdentity
    behavior: Behavior
    pair_set: PairSetIdentity
    tracing: Tracing
    judging: Judging
    metrics: tuple[MetricDefinition, ...] = DEFAULT
    """Everything is read under each of them, and the verdict is given again under those that have a threshold."""
    pairs_per_shard: int = Field(default=4, ge=1)
    exploratory: bool = False
    """True where another plan over this model and behavior was run first, so that its results could be seen."""
    predecessor: str | None = None
    """Digest of that plan."""
    traced: tuple[str, ...] = Field(default=(), exclude_if=lambda ids: not ids)
    """Pairs that are traced, by id, where the mapping leaves out pairs of unequal spans; none where any may be."""
    scope: Scope | None = Field(default=None, exclude_if=lambda scope: scope is None)
    """What a budget left out; None where there was none."""

    @cached_property
    def digest(self) -> str:
        return digest(self)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return site_grid(
            self.tracing.kinds,
            layers=self.model.layers,
            heads=self.model.heads,
            kv_heads=self.model.kv_heads,
            segments=self.tracing.segments,
            head_segments=self.tracing.head_segments,
            windows=self.tracing.windows,
            steps=self.tracing.layer_steps,
        )

    @cached_property
    def reads(self) -> frozenset[str]:
        """The measured values that the metrics ask for."""
        return frozenset().union(*(metric.names() for metric in self.metrics))

    @property
    def reads_answers(self) -> bool:
        """Whether a metric asks for the behavior's numeric answers, each of which takes a pass of its own."""
        return any(name == "expected_amount" or name.startswith(PREFIXES) for name in self.reads)

    @property
    def reads_logits(self) -> bool:
        """Whether a metric asks for logits as they are, which takes the logsumexp of all of them."""
        return any(name.startswith(LOGITS) for name in self.reads)

    @property
    def traces(self) -> tuple[tuple[Direction, Corruption], ...]:
        """What is traced in each form, the declared corruptions in their order."""
        return tuple(
            (direction, corruption)
            for corruption in self.tracing.corruptions
            for direction in Direction
            if direction in self.tracing.directions and not (corruption in ABLATIONS and direction is Direction.DENOISE)
        )


class ShardKind(StrEnum):
    DECISIONS = "decisions"
    """The decision values of both prompts of each pair."""
    EFFECTS = "effects"
    """The patched decision values of each pair at every site of the plan."""
    JOINT = "joint"
    """The patched decision values of each pair with two leading sites exchanged at once."""


class Shard(Frozen):
    """The unit of queue work. Its key follows from the plan, so a second delivery finds the first one's rows."""

    plan_digest: str
    kind: ShardKind
    form: str
    direction: Direction | None
    """None for decisions."""
    corruption: Corruption | None = None
    """None for decisions."""
    sites: tuple[str, ...] = ()
    """Keys of the leading sites that are exchanged two by two; of joint shards alone."""
    pair_ids: tuple[str, ...] = Field(min_length=1)

    @cached_property
    def key(self) -> str:
        return digest(self)[:32]
