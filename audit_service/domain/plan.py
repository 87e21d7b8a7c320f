"""A plan: everything that decides the numbers, fixed and hashed before the first of them is seen."""

from enum import StrEnum
from functools import cached_property

from pydantic import Field

from audit_service.domain.behaviors import Behavior
from audit_service.domain.manifest import Frozen, digest
from audit_service.domain.readings import Reading
from audit_service.domain.sites import ALL, Site, SiteKind, site_grid


class Direction(StrEnum):
    """Clean is the reference prompt, corrupt the comparison prompt."""

    DENOISE = "denoise"
    """Corrupt run, clean activation put in: tests sufficiency."""
    NOISE = "noise"
    """Clean run, corrupt activation put in: tests necessity."""


class Mapping(StrEnum):
    """Which token of the donor's segment replaces which of the recipient's, where their lengths differ."""

    RIGHT_ALIGNED = "right_aligned"
    """Last to last, and so on backwards; the longer segment's surplus on the left takes no part."""
    EQUAL_ONLY = "equal_only"
    """Pairs of unequal spans are refused."""


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
    parameters: int = Field(ge=1)
    files: dict[str, str]
    """File name → SHA-256."""
    chat_template_digest: str | None = None


class Tracing(Frozen):
    """Which pairs are patched, where and in which directions."""

    kinds: tuple[SiteKind, ...] = (SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.Z)
    segments: tuple[str, ...] = ("cue", "after", "decision")
    """Positions before the first difference cannot carry an effect and are not patched."""
    head_segments: tuple[str, ...] = (ALL,)
    directions: tuple[Direction, ...] = (Direction.DENOISE, Direction.NOISE)
    mapping: Mapping = Mapping.RIGHT_ALIGNED
    pairs_per_form: int = Field(default=12, ge=1)
    """Contrast pairs that are traced in each form, drawn by seed, every cluster once before any twice."""
    placebo_pairs_per_form: int = Field(default=2, ge=0)
    seed: int = 0


class Unit(StrEnum):
    """What is resampled, and so what is taken to be independent."""

    CLUSTER = "cluster"
    """Template x cue pair: the unit of the verdict."""
    CUES = "cues"
    """The cue pair over all templates: sensitivity analysis."""


class Robustness(Frozen):
    """The other specifications under which the verdict is given again, to say how far it depends on ours."""

    readings: tuple[Reading, ...] = tuple(Reading)
    units: tuple[Unit, ...] = tuple(Unit)
    prompt_resamples: int = Field(default=10, ge=0)
    """Random parts of the clusters, besides all of them."""
    kept_share: float = Field(default=0.8, gt=0, lt=1)
    """Share of the clusters in each part."""


class Judging(Frozen):
    """How the numbers become a verdict."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    delta_nats: float = Field(gt=0, allow_inf_nan=False)
    """Equivalence margin of the mean paired gap."""
    resamples: int = Field(default=10_000, ge=1_000)
    seed: int = 0
    robustness: Robustness = Robustness()


class PairSetIdentity(Frozen):
    name: str
    digest: str
    pairs: int


class Plan(Frozen):
    """Model x behavior x pairs x sites x rules. Changing any of it makes another plan with another hash."""

    model: ModelIdentity
    behavior: Behavior
    pair_set: PairSetIdentity
    tracing: Tracing
    judging: Judging
    pairs_per_shard: int = Field(default=4, ge=1)
    exploratory: bool = False
    """True for a plan that was changed after results of its predecessor were seen."""
    predecessor: str | None = None
    """Digest of the plan this one was changed from."""

    @cached_property
    def digest(self) -> str:
        return digest(self)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return site_grid(
            self.tracing.kinds,
            layers=self.model.layers,
            heads=self.model.heads,
            segments=self.tracing.segments,
            head_segments=self.tracing.head_segments,
        )


class ShardKind(StrEnum):
    DECISIONS = "decisions"
    """The decision values of both prompts of each pair."""
    EFFECTS = "effects"
    """The patched decision values of each pair at every site of the plan."""


class Shard(Frozen):
    """The unit of queue work. Its key follows from the plan, so a second delivery finds the first one's rows."""

    plan_digest: str
    kind: ShardKind
    form: str
    direction: Direction | None
    """None for decisions."""
    pair_ids: tuple[str, ...] = Field(min_length=1)

    @cached_property
    def key(self) -> str:
        return digest(self)[:32]
