from dataclasses import replace

import numpy as np
import pytest

from audit_service.domain import mixed
from audit_service.domain.cells import DecisionTable
from audit_service.domain.contrasts import contrasts
from audit_service.domain.mixed import Prompts, mixed_model
from audit_service.domain.uncertainty import Array
from tests.domain.made import audit, decisions, noisy

SPREADS = {"name": 0.3, "template": 0.5, "slope": 0.15, "residual": 0.1}


def made(*, names: int = 24, gap: float = 0.3, seed: int = 0) -> DecisionTable:
    """Decisions drawn from the model itself."""
    rng = np.random.default_rng(seed)
    plan, pairs = audit(names=names)
    [contrast] = contrasts(decisions(pairs.pairs, lambda _: 0.0), plan.behavior)
    table, drawn = contrast.table, {}

    def level(kind: str, *key: str) -> float:
        return drawn.setdefault((kind, *key), rng.normal(0, SPREADS[kind]))

    for index, pair in enumerate(table.pairs):
        for side, cue in enumerate((pair.reference_cue, pair.comparison_cue)):
            own = (
                level("name", cue)
                + level("template", pair.template)
                + level("residual", pair.template, pair.profile, cue)
            )
            table.d[index, side] = own + (pair.profile == "strong") - side * (gap + level("slope", pair.template))
    return table


def covariance(prompts: Prompts, spreads: dict[str, float]) -> Array:
    """Variances of the model as one matrix: prompts share a name, a template, or a template and the attribute.

    ``correlation`` among the spreads is that of a template's intercept and slope.
    """
    same_template = prompts.template[:, None] == prompts.template
    both = np.outer(prompts.comparison, prompts.comparison)
    either = prompts.comparison[:, None] + prompts.comparison
    return (
        spreads["name"] ** 2 * (prompts.name[:, None] == prompts.name)
        + spreads["template"] ** 2 * same_template
        + spreads["slope"] ** 2 * same_template * both
        + spreads["correlation"] * spreads["template"] * spreads["slope"] * same_template * either
        + spreads["residual"] ** 2 * np.eye(len(prompts.d))
    )


def restricted_likelihood(prompts: Prompts, spreads: dict[str, float]) -> tuple[float, Array, Array]:
    """Twice the restricted log-likelihood but for a constant, with the generalised least squares fit."""
    design = np.column_stack([np.ones(len(prompts.d)), prompts.comparison, prompts.profile == 1])
    variance = covariance(prompts, spreads)
    weighted = np.linalg.solve(variance, design)
    information = design.T @ weighted
    fixed = np.linalg.solve(information, weighted.T @ prompts.d)
    rest = prompts.d - design @ fixed
    fit = -np.linalg.slogdet(variance)[1] - np.linalg.slogdet(information)[1] - rest @ np.linalg.solve(variance, rest)
    return fit, fixed, np.sqrt(np.diag(np.linalg.inv(information)))


def test_each_prompt_stands_once_although_it_is_in_several_pairs() -> None:
    prompts = Prompts.of(made())
    assert len(prompts.d) == 2 * 24 * 2 * 2
    assert prompts.comparison.mean() == 0.5


def found(table: DecisionTable) -> dict[str, float]:
    model = mixed_model(table, alpha=0.05)
    return model.spreads | {"correlation": model.correlation or 0.0}


def test_the_gap_is_the_generalised_least_squares_estimate_under_the_variances_found() -> None:
    prompts, model = Prompts.of(made()), mixed_model(made(), alpha=0.05)
    _, fixed, errors = restricted_likelihood(prompts, found(made()))
    assert model.gap.value == pytest.approx(-fixed[1], abs=1e-4)
    assert (model.gap.high - model.gap.low) / 2 == pytest.approx(1.959964 * errors[1], abs=2e-4)


def test_no_other_variances_and_no_other_correlation_are_more_likely() -> None:
    prompts, spreads = Prompts.of(made()), found(made())
    best, _, _ = restricted_likelihood(prompts, spreads)
    for part, spread in spreads.items():
        for factor in (0.8, 0.95, 1.05, 1.25):
            moved = np.clip(spread * factor, -1, 1) if part == "correlation" else spread * factor
            other, _, _ = restricted_likelihood(prompts, spreads | {part: float(moved)})
            assert other <= best + 1e-3


def test_the_truth_is_within_the_interval_and_the_large_variances_are_recovered() -> None:
    model = mixed_model(made(names=36), alpha=0.05)
    assert model.gap.low < 0.3 < model.gap.high
    assert model.spreads["name"] == pytest.approx(0.3, rel=0.3)
    assert model.spreads["residual"] == pytest.approx(0.1, rel=0.2)


def test_a_fit_on_which_optimisers_disagree_has_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = mixed._fit

    def drifting(prompts: Prompts, optimiser: str) -> mixed.Fit | None:
        fit = honest(prompts, optimiser)
        if fit is None or optimiser == "Nelder-Mead":
            return fit
        return replace(fit, gap=fit.gap + fit.error)

    monkeypatch.setattr(mixed, "_fit", drifting)
    model = mixed_model(made(), alpha=0.05)
    assert (model.gap.value, model.gap.issue, model.spreads) == (None, "reason.no_convergence", {})


def test_what_cannot_be_fitted_is_named() -> None:
    table = made()
    single = np.array([pair.template == "form" for pair in table.pairs])
    assert mixed_model(table.select(single), alpha=0.05).gap.issue == "reason.one_level"
    assert mixed_model(table.select(single & False), alpha=0.05).gap.issue == "reason.not_measured"
    table.d[:] = 0.25
    assert mixed_model(table, alpha=0.05).gap.issue == "reason.no_variation"


def test_data_without_residual_variation_have_a_named_outcome_or_a_number_but_no_warning() -> None:
    plan, pairs = audit()
    [contrast] = contrasts(decisions(pairs.pairs, lambda _: 0.5), plan.behavior)
    model = mixed_model(contrast.table, alpha=0.05)
    assert model.gap.issue == "reason.no_convergence" or model.gap.value == pytest.approx(0.5, abs=1e-3)


def test_large_audits_are_told_that_the_model_is_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed, "LARGEST", 10)
    assert mixed_model(made(), alpha=0.05).gap.issue == "reason.too_large"


def test_the_mixed_model_and_the_pairs_tell_the_same_gap_on_balanced_data() -> None:
    plan, pairs = audit(names=24)
    [contrast] = contrasts(decisions(pairs.pairs, noisy(0.3), base=noisy(0, spread=0.4, seed=6)), plan.behavior)
    gap = (contrast.table.d[:, 0].astype(float) - contrast.table.d[:, 1]).mean()
    assert mixed_model(contrast.table, alpha=0.05).gap.value == pytest.approx(gap, abs=1e-3)
