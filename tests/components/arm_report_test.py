"""What is said of arms, from numbers made up: whichever way it went, however many arms there are."""

from __future__ import annotations

import numpy as np
import pytest

from components.reporter.arm_networks import Arms, Trained
from components.reporter.arms import arm_figures, arm_lead, error_table, robustness_table, round_table, seed_table
from intriguing.statistics.proportions import Proportion, sign_test

ROUNDS = [
    {"num_epochs": 2, "clean_loss": 0.5, "pool_losses": {"images": 0.0}, "least_distortions": {}, "num_found": {}, "num_tried": {}},
    {
        "num_epochs": 4, "clean_loss": 0.2, "pool_losses": {"images": 1.0}, "least_distortions": {"images": None},
        "num_found": {"images": 0}, "num_tried": {"images": 5},
    },
    {
        "num_epochs": 5, "clean_loss": 0.1, "pool_losses": {"images": 0.8}, "least_distortions": {"images": 0.06},
        "num_found": {"images": 4}, "num_tried": {"images": 5},
    },
]  # fmt: skip


def _network(name: str, seed: int, wrong: set[int], distortion: list[float] | None = None, **more: object) -> Trained:
    training = {"name": name, "seed": seed, "train_errors": [0, 5], **more}
    found = np.array([] if distortion is None else distortion)
    transferred = None if distortion is None else Proportion(1, 4)
    return Trained(training, Proportion(len(wrong), 100), frozenset(wrong), found, np.isfinite(found), found / 2, transferred)


def _arms(**wrong: list[set[int]]) -> Arms:
    networks = {name: [_network(name, seed, rows) for seed, rows in enumerate(sets)] for name, sets in wrong.items()}
    return Arms("test", networks)


def test_pairs_count_the_images_that_only_one_gets_wrong() -> None:
    arms = _arms(first=[{1, 2, 3}, {1, 2}], other=[{3, 4}, set()])
    assert arms.pairs("other") == [(1, 2, pytest.approx(-0.01)), (0, 2, pytest.approx(-0.02))]
    assert arms.pooled("other") == (1, 4, pytest.approx(-0.015))
    (_, row) = error_table(arms).rows
    assert (row["Spoiled"], row["Mended"], row["p"]) == (1, 4, sign_test(1, 4))
    assert row["Mean error"].value == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ([{3, 4}, set()], "; other on 1.00 %, 1.50 points less (95 % interval -7.85 to +4.85)."),
        (
            [{1, 2, 3, 4}, {1, 2, 3, 4}],
            "; other on 4.00 %, 1.50 points more (95 % interval -4.85 to +7.85).",
        ),
    ],
    ids=["better", "worse"],
)
def test_the_lead_tells_whichever_way_it_went(other: list[set[int]], words: str) -> None:
    lead = arm_lead(_arms(first=[{1, 2, 3}, {1, 2}], other=other))
    assert lead.startswith("first errs on 2.50 % of test, averaged over 2 seeds; ")
    assert words in lead
    assert "distortion" not in lead


def test_one_seed_has_an_interval_of_its_images_and_none_of_the_change() -> None:
    arms = _arms(first=[{1, 2, 3}], other=[{3, 4}])
    first, other = error_table(arms).rows
    assert (first["Mean error"].lower, first["Mean error"].upper) == (Proportion(3, 100).lower, Proportion(3, 100).upper)
    assert np.isnan(other["Change"].lower)
    assert "averaged" not in arm_lead(arms)
    assert "other on 2.00 %, 1.00 points less (p = 1)." in arm_lead(arms)


def test_of_many_arms_the_lead_names_the_best_and_that_it_was_chosen() -> None:
    lead = arm_lead(_arms(first=[{1, 2, 3}], a=[{1}], b=[{1, 2}], c=[{1, 2}], d=[{1, 2}]))
    assert "a, the best of 4 others and chosen on these very images, on 1.00 %" in lead
    assert "b " not in lead


def test_the_papers_numbers_stand_beside_the_arms_that_it_has() -> None:
    arms = Arms("test", {name: [_network(name, 0, {1})] for name in ("FC100-100-10", "FC100-100-10 pools", "mine")})
    table = error_table(arms)
    assert [table.paper(row, "Mean error") for row in range(3)] == [0.016, 0.012, None]
    assert "below 1.2 %" in " ".join(table.notes)
    assert error_table(_arms(first=[{1}], other=[{1}])).published == ()


def test_distances_are_compared_image_by_image_where_both_are_known() -> None:
    nan = float("nan")
    networks = {
        "first": [_network("first", 0, {1}, [0.1, 0.1, nan, 0.0])],
        "other": [_network("other", 0, {1}, [0.2, 0.05, 0.3, 0.4], rounds=ROUNDS)],
    }
    arms = Arms("test", networks)
    first, other = robustness_table(arms).rows
    assert other["Times the first"].value == pytest.approx(1.0)  # twice as far, and half as far
    assert first["Times the first"] is None and first["Fooled by the first's"] is None
    assert other["Fooled by the first's"] == (1, 4)
    assert first["Found"] == (3, 4) and first["Least distortion"].value == pytest.approx(0.2 / 3)
    assert "1.00 times as far for other" in arm_lead(arms)
    assert set(arm_figures(arms)) == {"arm_errors", "arm_distortion", "arm_rounds_2"}
    assert len(seed_table(arms).rows) == 2


def test_nothing_is_said_of_distances_that_nobody_found() -> None:
    nothing = [float("nan")] * 2
    arms = Arms("test", {name: [_network(name, 0, {1}, nothing)] for name in ("first", "other")})
    assert "distortion" not in arm_lead(arms)
    assert np.isnan(robustness_table(arms).rows[1]["Times the first"].value)


def test_rounds_are_told_with_what_they_lack() -> None:
    table = round_table({"name": "pooled", "rounds": ROUNDS})
    assert [row["Loss, images"] for row in table.rows] == [None, 1.0, 0.8]
    assert [row["Least distortion, images"] for row in table.rows] == [None, None, 0.06]
    assert [row["Found, images"] for row in table.rows] == [(0, 0), (0, 5), (4, 5)]
