"""The criterion against lme4 itself: the results that statsmodels' own tests ship, and a dense covariance."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from statsmodels.regression.tests.results import lme_r_results

from audit_service.domain.reml import Mixed, Optimiser, Term
from audit_service.domain.uncertainty import Array

PUBLISHED = Path(lme_r_results.__file__).parent


def read(number: int) -> Mixed:
    """Data set of the published results: correlated random effects of one factor."""
    with (PUBLISHED / f"lme{number:02d}.csv").open(encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    data = np.array(lines, dtype=np.float64)
    columns = {kind: [i for i, name in enumerate(header) if name.startswith(kind)] for kind in ("exog_fe", "exog_re")}
    groups = np.unique(data[:, header.index("groups")], return_inverse=True)[1]
    random = Term(data[:, columns["exog_re"]], groups)
    return Mixed(data[:, header.index("endog")], data[:, columns["exog_fe"]], (random,))


def published(name: str, number: int) -> Array:
    return np.asarray(getattr(lme_r_results, f"{name}_reml_drf_{number}"))


@pytest.mark.parametrize("optimiser", ["Powell", "Nelder-Mead"])
@pytest.mark.parametrize("number", range(9))
def test_it_gives_what_lme4_gives(number: int, optimiser: Optimiser) -> None:
    found = read(number).fit(optimiser)
    assert found.likelihood == pytest.approx(published("loglike", number)[0], abs=2e-3)
    assert found.fixed == pytest.approx(published("coef", number), abs=5e-3)
    assert found.errors**2 == pytest.approx(np.diag(np.atleast_2d(published("vcov", number))), rel=2e-2)
    assert found.scale == pytest.approx(published("scale", number)[0], rel=1e-2)
    expected = np.atleast_2d(published("cov_re", number))
    assert found.covariances[0] == pytest.approx(expected, abs=0.02 * np.abs(expected).max() + 1e-3)


def test_crossed_terms_have_the_likelihood_of_their_dense_covariance() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.integers(4, size=60), rng.integers(7, size=60)
    x = rng.normal(size=60)
    fixed = np.column_stack([np.ones(60), x])
    y = rng.normal(size=60) + rng.normal(size=4)[one] + 0.5 * rng.normal(size=7)[other] + x
    model = Mixed(y, fixed, (Term(fixed, one), Term(np.ones((60, 1)), other)))
    found = model.fit("Powell")
    both, single = found.covariances
    dense = found.scale * np.eye(60) + single[0, 0] * (other[:, None] == other)
    dense += (one[:, None] == one) * (fixed @ both @ fixed.T)
    # Restricted: the likelihood of contrasts of y that hold no fixed effect (Harville 1974).
    contrasts = np.linalg.qr(fixed, mode="complete")[0][:, 2:]
    density = multivariate_normal(np.zeros(58), contrasts.T @ dense @ contrasts).logpdf(contrasts.T @ y)
    assert found.likelihood + np.linalg.slogdet(fixed.T @ fixed)[1] / 2 == pytest.approx(density, abs=1e-6)
