"""Which FMRs a set is measured at."""

from __future__ import annotations

import pytest

from eval_tools.ijb import TAR_FMRS
from eval_tools.measure import Settings


def test_fmrs_that_were_asked_for_stay_even_where_they_are_not_resolved() -> None:
    asked = Settings(fmrs=(1e-4,), tar_fmrs=(1e-6,), default_tar_fmrs=TAR_FMRS)
    assert (asked.curve_fmrs(300), asked.points_fmrs(300), asked.left_out(300)) == ((1e-4,), (1e-6,), ())


def test_rates_of_the_usual_tar_table_that_are_not_resolved_are_left_out_and_named() -> None:
    usual = Settings(default_tar_fmrs=TAR_FMRS)
    assert usual.points_fmrs(7020) == (1e-3, 1e-2, 1e-1)
    assert usual.left_out(7020) == (
        "FMR 0.0001, 1e-05, 1e-06 left out: not resolved by 7,020 impostor pairs (0.0001 takes 10,000)",
    )
    assert usual.points_fmrs(15_600_000) == TAR_FMRS
    assert usual.left_out(15_600_000) == ()


@pytest.mark.parametrize("n_impostor", [12, 300, 4000, 10**6])
def test_true_accept_rates_are_at_the_fmrs_of_the_curves_unless_told(n_impostor: int) -> None:
    settings = Settings()
    assert settings.points_fmrs(n_impostor) == settings.curve_fmrs(n_impostor)
    assert Settings(fmrs=(0.2,)).points_fmrs(n_impostor) == (0.2,)
    assert Settings(tar_fmrs=(0.2,)).points_fmrs(n_impostor) == (0.2,)


def test_an_fmr_that_replaces_the_usual_ones_and_is_not_resolved_says_so() -> None:
    assert Settings().left_out(1)[0].endswith("FMR 0.1 instead, which is not resolved either")
    assert Settings().left_out(300)[0].endswith("FMR 0.01 instead")
