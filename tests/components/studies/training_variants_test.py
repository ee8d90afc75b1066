"""Tables, figures and sentences about training variants, computed from given numbers."""

from __future__ import annotations

import numpy as np
import pytest

from components.records import NetworkRecord
from components.studies.training_comparison import (
    error_table,
    robustness_table,
    round_table,
    seed_table,
    variant_figures,
    variant_lead,
)
from components.studies.training_variants import TrainedVariant, TrainingVariants
from intriguing.statistics.proportions import Proportion, sign_test
from intriguing.training.adversarial import Round

ROUNDS = (
    Round(
        num_steps=2, num_epochs=2, clean_loss=0.5, pool_losses={"images": 0.0}, least_distortions={}, num_found={}, num_tried={}
    ),
    Round(
        num_steps=4, num_epochs=4, clean_loss=0.2, pool_losses={"images": 1.0}, least_distortions={"images": None},
        num_found={"images": 0}, num_tried={"images": 5},
    ),
    Round(
        num_steps=5, num_epochs=5, clean_loss=0.1, pool_losses={"images": 0.8}, least_distortions={"images": 0.06},
        num_found={"images": 4}, num_tried={"images": 5},
    ),
)  # fmt: skip


def _network(
    name: str, seed: int, wrong: set[int], distortion: list[float] | None = None, rounds: tuple[Round, ...] = ()
) -> TrainedVariant:
    training = NetworkRecord(name=name, model="FC10(1)", seed=seed, train_errors=Proportion(0, 5), rounds=rounds)
    found = np.array([] if distortion is None else distortion)
    transferred = None if distortion is None else Proportion(1, 4)
    return TrainedVariant(
        training, Proportion(len(wrong), 100), frozenset(wrong), found, np.isfinite(found), found / 2, transferred
    )


def _variants(**wrong: list[set[int]]) -> TrainingVariants:
    networks = {name: [_network(name, seed, rows) for seed, rows in enumerate(sets)] for name, sets in wrong.items()}
    return TrainingVariants("test", networks)


def test_pairs_count_the_images_that_only_one_network_misclassifies() -> None:
    variants = _variants(first=[{1, 2, 3}, {1, 2}], other=[{3, 4}, set()])
    assert variants.pairs("other") == [(1, 2, pytest.approx(-0.01)), (0, 2, pytest.approx(-0.02))]
    assert variants.pooled("other") == (1, 4, pytest.approx(-0.015))
    (_, row) = error_table(variants).rows
    assert (row["Newly wrong"], row["Newly correct"], row["p"]) == (1, 4, sign_test(1, 4))
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
def test_lead_reports_improvements_and_deteriorations(other: list[set[int]], words: str) -> None:
    lead = variant_lead(_variants(first=[{1, 2, 3}, {1, 2}], other=other))
    assert lead.startswith("first errs on 2.50 % of test, averaged over 2 seeds; ")
    assert words in lead
    assert "distortion" not in lead


def test_one_seed_has_an_interval_over_images_and_none_for_the_change() -> None:
    variants = _variants(first=[{1, 2, 3}], other=[{3, 4}])
    first, other = error_table(variants).rows
    assert (first["Mean error"].lower, first["Mean error"].upper) == (Proportion(3, 100).lower, Proportion(3, 100).upper)
    assert np.isnan(other["Change"].lower)
    assert "averaged" not in variant_lead(variants)
    assert "other on 2.00 %, 1.00 points less (p = 1)." in variant_lead(variants)


def test_lead_about_many_variants_names_the_best_and_says_that_it_was_chosen() -> None:
    lead = variant_lead(_variants(first=[{1, 2, 3}], a=[{1}], b=[{1, 2}], c=[{1, 2}], d=[{1, 2}]))
    assert "a, the best of 4 others and chosen on these very images, on 1.00 %" in lead
    assert "b " not in lead


def test_table_shows_published_numbers_for_variants_of_the_paper() -> None:
    variants = TrainingVariants(
        "test", {name: [_network(name, 0, {1})] for name in ("FC100-100-10", "FC100-100-10 pools", "mine")}
    )
    table = error_table(variants)
    assert [table.paper(row, "Mean error") for row in range(3)] == [0.016, 0.012, None]
    assert "below 1.2 %" in " ".join(table.notes)
    assert error_table(_variants(first=[{1}], other=[{1}])).published == ()


def test_distortions_are_compared_image_by_image_where_both_are_known() -> None:
    nan = float("nan")
    networks = {
        "first": [_network("first", 0, {1}, [0.1, 0.1, nan, 0.0])],
        "other": [_network("other", 0, {1}, [0.2, 0.05, 0.3, 0.4], rounds=ROUNDS)],
    }
    variants = TrainingVariants("test", networks)
    first, other = robustness_table(variants).rows
    assert other["Ratio to baseline"].value == pytest.approx(1.0)  # twice as far, and half as far
    assert first["Ratio to baseline"] is None and first["Error on baseline's images"] is None
    assert other["Error on baseline's images"] == (1, 4)
    assert first["Succeeded"] == (3, 4) and first["Least distortion"].value == pytest.approx(0.2 / 3)
    assert "1.00 times as far for other" in variant_lead(variants)
    assert set(variant_figures(variants)) == {"variant_errors", "variant_distortion", "variant_rounds_2"}
    assert len(seed_table(variants).rows) == 2


def test_lead_omits_distortions_when_no_attack_succeeded() -> None:
    nothing = [float("nan")] * 2
    variants = TrainingVariants("test", {name: [_network(name, 0, {1}, nothing)] for name in ("first", "other")})
    assert "distortion" not in variant_lead(variants)
    assert np.isnan(robustness_table(variants).rows[1]["Ratio to baseline"].value)


def test_round_table_leaves_missing_values_empty() -> None:
    table = round_table(NetworkRecord(name="pooled", model="FC10(1)", rounds=ROUNDS))
    assert [row["Loss, images"] for row in table.rows] == [None, 1.0, 0.8]
    assert [row["Least distortion, images"] for row in table.rows] == [None, None, 0.06]
    assert [row["Succeeded, images"] for row in table.rows] == [(0, 0), (0, 5), (4, 5)]
