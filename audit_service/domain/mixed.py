"""The mixed model of METHOD.md section 3: d ~ attribute + profile + (1 + attribute | template) + (1 | name).

It sees what pairs hide: how much of the variation lies between names, between templates, and in how the attribute's
effect differs between templates. Slope and intercept of a template may be correlated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audit_service.domain.cells import DecisionTable
from audit_service.domain.reml import Mixed, Optimiser, Term
from audit_service.domain.uncertainty import Array, Estimate, level

LARGEST = 300
"""Names and templates above which the fit takes minutes."""
OPTIMISERS: tuple[Optimiser, ...] = ("Powell", "Nelder-Mead")
DECIMALS = 4
"""An optimiser's further digits differ between machines."""
NOTHING = 1e-6
"""A spread below this share of the residual's has no correlation with anything."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The distinct prompts of a contrast, one row each."""

    d: Array
    comparison: Array
    """1 in the comparison group, 0 in the reference group."""
    template: NDArray[np.intp]
    profile: NDArray[np.intp]
    name: NDArray[np.intp]

    @classmethod
    def of(cls, table: DecisionTable) -> "Prompts":
        seen: dict[tuple[str, str, str], tuple[float, float]] = {}
        for pair, values in zip(table.pairs, table.d.tolist(), strict=True):
            cues = pair.reference_cue, pair.comparison_cue
            for group, (cue, value) in enumerate(zip(cues, values, strict=True)):
                seen[pair.template, pair.profile, cue] = value, float(group)
        d, comparison = np.array(list(seen.values()), dtype=np.float64).reshape(-1, 2).T
        template, profile, name = (_codes([key[part] for key in seen]) for part in range(3))
        return cls(d, comparison, template, profile, name)


def _codes(labels: Sequence[str]) -> NDArray[np.intp]:
    return np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]


@dataclass(frozen=True, slots=True)
class MixedModel:
    """Gap and standard deviations in nats, or why the model has none."""

    gap: Estimate
    """Reference minus comparison."""
    spreads: dict[str, float]
    """template, slope, name and residual."""
    correlation: float | None = None
    """Of a template's intercept (the reference group's level) and slope; None where either does not vary."""


def mixed_model(table: DecisionTable, *, alpha: float) -> MixedModel:
    """The model fitted by restricted maximum likelihood to the measured pairs of one contrast."""
    method = f"mixed model, REML; Wald {level(alpha)}"
    prompts = Prompts.of(table)
    if issue := _unfit(prompts):
        return MixedModel(Estimate(None, None, None, method, issue), {})
    fits = [fit for optimiser in OPTIMISERS if (fit := _fit(prompts, optimiser)) is not None]
    if len(fits) < len(OPTIMISERS) or not _agree(fits):
        return MixedModel(Estimate(None, None, None, method, "reason.no_convergence"), {})
    best = max(fits, key=lambda fit: fit.likelihood)
    reach = float(stats.norm.ppf(1 - alpha / 2)) * best.error
    gap, low, high = (round(value, DECIMALS) for value in (best.gap, best.gap - reach, best.gap + reach))
    spreads = {name: round(value, DECIMALS) for name, value in best.spreads.items()}
    correlation = None if best.correlation is None else round(best.correlation, DECIMALS)
    return MixedModel(Estimate(gap, low, high, method), spreads, correlation)


@dataclass(frozen=True, slots=True)
class Fit:
    """What one optimiser found."""

    gap: float
    error: float
    likelihood: float
    spreads: dict[str, float]
    correlation: float | None


def _fit(prompts: Prompts, optimiser: Optimiser) -> Fit | None:
    """None where the optimiser ends without finite numbers."""
    unit = float(prompts.d.std())
    ones = np.ones((len(prompts.d), 1))
    terms = (
        Term(np.column_stack([ones, prompts.comparison]), prompts.template),
        Term(ones, prompts.name),
    )
    found = Mixed(prompts.d / unit, _fixed(prompts), terms).fit(optimiser)
    if found is None or not (np.isfinite(found.errors[1]) and found.errors[1] > 0):
        return None
    by_template, by_name = found.covariances
    variances = [*np.diag(by_template), by_name[0, 0], found.scale]
    spreads = dict(zip(("template", "slope", "name", "residual"), np.sqrt(variances).tolist(), strict=True))
    both = spreads["template"] * spreads["slope"]
    varies = min(spreads["template"], spreads["slope"]) > NOTHING * spreads["residual"]
    return Fit(
        -float(found.fixed[1]) * unit,
        float(found.errors[1]) * unit,
        found.likelihood,
        {name: spread * unit for name, spread in spreads.items()},
        float(by_template[0, 1] / both) if varies else None,
    )


def _agree(fits: list[Fit]) -> bool:
    """Whether the printed numbers depend on the optimiser by less than a twentieth of the standard error.

    On the border of the parameter space, where a variance is zero, the optimisers' own flags say little.
    """
    one, other = fits
    tolerance = 0.05 * min(one.error, other.error)
    return abs(one.gap - other.gap) < tolerance and abs(one.error - other.error) < tolerance


def _unfit(prompts: Prompts) -> str | None:
    if not len(prompts.d):
        return "reason.not_measured"
    if prompts.name.max() + prompts.template.max() + 2 > LARGEST:
        return "reason.too_large"
    names = [len(np.unique(prompts.name[prompts.comparison == group])) for group in (0, 1)]
    if min(*names, len(np.unique(prompts.template))) < 2:
        return "reason.one_level"
    return "reason.no_variation" if np.ptp(prompts.d) == 0 else None


def _fixed(prompts: Prompts) -> Array:
    """Intercept, attribute, and a column for each profile but the first."""
    return np.column_stack([np.ones(len(prompts.d)), prompts.comparison, _dummies(prompts.profile)[:, 1:]])


def _dummies(codes: NDArray[np.intp]) -> Array:
    return np.eye(int(codes.max()) + 1)[codes]
