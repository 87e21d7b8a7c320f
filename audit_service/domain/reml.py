"""Linear mixed models with crossed and correlated random effects, fitted by restricted maximum likelihood.

statsmodels has correlated effects or crossed ones, not both at once. The criterion is that of lme4 (Bates, Mächler,
Bolker & Walker 2015, sections 3.4 and 3.5, arXiv 1406.5823): penalised least squares over products that are formed
once, so that one evaluation costs no more than a Cholesky factor of the random effects' size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from audit_service.domain.uncertainty import Array

Optimiser: TypeAlias = Literal["Powell", "Nelder-Mead"]
"""Both take bounds and bear a minimum on them, where a variance is zero."""
TOLERANCE = 1e-8
STARTS = 3
"""Each from where the last ended: a simplex that collapsed on a bound cannot leave it by itself."""
STEPS = 4000
"""Evaluations after which an optimiser that does not settle is given up."""
LARGEST_RATIO = 1e4
"""Random effects that spread wider than this, in residual standard deviations, tell of a residual of nothing."""


class Term(NamedTuple):
    """Random effects that vary over the levels of one factor, correlated with each other."""

    design: Array
    """[row, effect]: ones for an intercept, a covariate for its slope."""
    levels: NDArray[np.intp]
    """[row] from 0"""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What one optimiser found."""

    fixed: Array
    errors: Array
    """Standard errors of ``fixed``."""
    covariances: tuple[Array, ...]
    """[effect, effect] of each term."""
    scale: float
    """Residual variance."""
    likelihood: float
    """Restricted log-likelihood."""


@dataclass(frozen=True)
class Mixed:
    """A model y = fixed effects + random effects of each term + residual."""

    y: Array
    fixed: Array
    """[row, column] of full rank."""
    terms: tuple[Term, ...]

    @cached_property
    def _random(self) -> Array:
        """[row, random effect], level by level within each term."""
        blocks = []
        for design, levels in self.terms:
            block = np.zeros((len(levels), int(levels.max()) + 1, design.shape[1]))
            block[np.arange(len(levels)), levels] = design
            blocks.append(block.reshape(len(levels), -1))
        return np.concatenate(blocks, axis=1)

    @cached_property
    def _products(self) -> Array:
        """Of random effects, fixed effects and y with each other."""
        whole = np.column_stack([self._random, self.fixed, self.y])
        return np.asarray(whole.T @ whole)

    def fit(self, optimiser: Optimiser) -> Fitted | None:
        """None where the optimiser ends without finite numbers."""
        start, bounds = self._start()
        try:
            for _ in range(STARTS):
                found = optimize.minimize(
                    self._deviance, start, method=optimiser, bounds=bounds, tol=TOLERANCE, options={"maxfev": STEPS}
                )
                start = found.x
            return self._fitted(start) if np.isfinite(found.fun) else None
        except linalg.LinAlgError:
            return None

    def _start(self) -> tuple[Array, list[tuple[float, float]]]:
        """Unit ratios without correlation; diagonal elements are not negative."""
        start, bounds = [], []
        for design, _ in self.terms:
            for row, column in zip(*np.tril_indices(design.shape[1]), strict=True):
                start.append(float(row == column))
                bounds.append((0.0 if row == column else -LARGEST_RATIO, LARGEST_RATIO))
        return np.array(start), bounds

    def _factors(self, ratios: Array) -> list[Array]:
        """Lower triangles of each term's covariance over the residual variance."""
        factors, at = [], 0
        for design, _ in self.terms:
            lower = np.zeros((design.shape[1],) * 2)
            rows = np.tril_indices(design.shape[1])
            lower[rows] = ratios[at : at + len(rows[0])]
            factors.append(lower)
            at += len(rows[0])
        return factors

    def _solved(self, ratios: Array) -> tuple[Array, Array, float]:
        """Cholesky factors of random and of fixed effects with y behind them, and the penalised sum of squares."""
        random, fixed = self._random.shape[1], self.fixed.shape[1]
        factors = self._factors(ratios)
        crossed = _scaled(self._products[:random], factors, self.terms)
        own = linalg.cholesky(_scaled(crossed[:, :random].T, factors, self.terms) + np.eye(random), lower=True)
        behind = linalg.solve_triangular(own, crossed[:, random:], lower=True)
        rest = self._products[random:, random:] - behind.T @ behind
        upper = linalg.cholesky(rest[:fixed, :fixed], lower=True)
        half = linalg.solve_triangular(upper, rest[:fixed, fixed], lower=True)
        return own, np.column_stack([upper, half]), max(float(rest[fixed, fixed] - half @ half), np.finfo(float).tiny)

    def _deviance(self, ratios: Array) -> float:
        """Minus twice the restricted log-likelihood at the best residual variance (lme4's equation 41)."""
        own, upper, squares = self._solved(ratios)
        freedom: int = len(self.y) - self.fixed.shape[1]
        logs = 2 * float(np.log(np.diag(own)).sum() + np.log(np.diag(upper)).sum())
        return logs + freedom * (1 + float(np.log(2 * np.pi * squares / freedom)))

    def _fitted(self, ratios: Array) -> Fitted:
        _, upper, squares = self._solved(ratios)
        scale = squares / (len(self.y) - int(self.fixed.shape[1]))
        inverse = linalg.solve_triangular(upper[:, :-1], np.eye(len(upper)), lower=True)
        return Fitted(
            inverse.T @ upper[:, -1],
            np.sqrt(scale * np.diag(inverse.T @ inverse)),
            tuple(scale * factor @ factor.T for factor in self._factors(ratios)),
            scale,
            -self._deviance(ratios) / 2,
        )


def _scaled(rows: Array, factors: Sequence[Array], terms: Sequence[Term]) -> Array:
    """Rows of random effects, level by level within each term, times the transposed factor of their term."""
    parts, at = [], 0
    for factor, (_, levels) in zip(factors, terms, strict=True):
        count = (int(levels.max()) + 1) * len(factor)
        part = rows[at : at + count].reshape(-1, len(factor), rows.shape[1])
        parts.append(np.matmul(factor.T, part).reshape(count, -1))
        at += count
    return np.concatenate(parts)
