"""Names of sites and the sites they name."""

import pytest

from audit_service.domain.sitenames import sites_named
from audit_service.domain.sites import Site, SiteKind
from audit_service.errors import InvalidTrace


@pytest.mark.parametrize(
    "site",
    [
        Site(SiteKind.RESID_PRE, 0, None, "cue"),
        Site(SiteKind.Z, 9, 0, "decision"),
        Site(SiteKind.NEURONS, 12, None, "t3-5"),
    ],
)
def test_a_sites_own_key_names_it(site: Site) -> None:
    assert sites_named(site.key) == (site,)


def test_windows_and_sums_name_several_sites() -> None:
    assert sites_named("mlp_out.L5-7.cue + k.L1.2.all") == (
        *(Site(SiteKind.MLP_OUT, layer, None, "cue") for layer in (5, 6, 7)),
        Site(SiteKind.K, 1, 2, "all"),
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("soul.L1.cue", "no site kind 'soul'"),
        ("z.L1.cue", "needs a head"),
        ("mlp_out.L1.3.cue", "has no head"),
        ("mlp_out.L3-1.cue", "ends before it begins"),
        ("", "names no site"),
    ],
)
def test_names_of_nothing_are_refused(name: str, words: str) -> None:
    with pytest.raises(InvalidTrace, match=words):
        sites_named(name)
