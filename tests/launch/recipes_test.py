"""Every recipe can be wired together before anyone waits for it."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

from components.contract import Component
from components.photograph_pipeline import PhotographStudy, photograph_pipeline
from components.pipeline import Study, study_pipeline
from intriguing.models import build, features_at
from intriguing.models.layer_split import cut_at
from intriguing.models.networks.zoo import CONSTRUCTORS, PHOTOGRAPH_CONSTRUCTORS
from intriguing.names import check_name
from intriguing.training import AdversarialTraining
from launch import recipes

RECIPES = [module.name for module in pkgutil.iter_modules(recipes.__path__)]


def _load(name: str) -> Study | PhotographStudy:
    return pkgutil.resolve_name(f"launch.recipes.{name}:RECIPE")


STUDIES = [name for name in RECIPES if isinstance(_load(name), Study)]
OF_PHOTOGRAPHS = [name for name in RECIPES if isinstance(_load(name), PhotographStudy)]


def test_there_are_recipes() -> None:
    assert "mnist_5k" in RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_study_under_a_story(name: str) -> None:
    assert isinstance(_load(name), Study | PhotographStudy)
    story = pkgutil.resolve_name(f"launch.recipes.{name}").__doc__
    assert "python -m launch.reproduce" in story


@pytest.mark.parametrize("name", STUDIES)
def test_the_steps_of_a_recipe_have_distinct_folders_and_come_after_their_inputs(name: str, tmp_path: Path) -> None:
    _check_wiring(study_pipeline(_load(name), workdir=tmp_path, seed=0, facts={}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OF_PHOTOGRAPHS)
def test_so_have_those_of_a_recipe_about_photographs(name: str, tmp_path: Path) -> None:
    place = tmp_path / "photographs" / _load(name).subset / "n01440764"
    place.mkdir(parents=True)
    for file in (place / "photograph.png", tmp_path / "weights.npz"):
        file.write_bytes(b"")
    files = {"photographs": tmp_path / "photographs", "weights": tmp_path / "weights.npz"}
    _check_wiring(photograph_pipeline(_load(name), workdir=tmp_path / "work", seed=0, facts={}, **files))
    assert not (tmp_path / "work").exists()


def _check_wiring(steps: list[Component]) -> None:
    assert len({step.id for step in steps}) == len(steps)
    done: set[Path] = set()
    for step in steps:
        assert {artifact.uri for artifacts in step.inputs.values() for artifact in artifacts} <= done
        done.add(step.output.uri)


@pytest.mark.parametrize("name", STUDIES)
def test_every_network_of_a_recipe_is_in_the_zoo(name: str) -> None:
    study = _load(name)
    networks = [*study.networks, *study.networks_on_first, *study.networks_on_second]
    if study.units:
        networks += [network for network, _ in study.units.layers]
    if study.arms:
        networks += study.arms.arms
    assert networks
    for network in networks:
        check_name(network.model, CONSTRUCTORS, "model")


@pytest.mark.parametrize("name", OF_PHOTOGRAPHS)
def test_the_networks_of_a_recipe_about_photographs_have_their_layers(name: str) -> None:
    study = _load(name)
    for other in (study.model, *study.bounded):
        check_name(other, PHOTOGRAPH_CONSTRUCTORS, "model")
    for choice in study.layers:
        features = features_at(build(study.model), choice.layer, pooling=choice.pooling)
        assert len(features.output_shape) == 2


@pytest.mark.parametrize("name", [name for name in STUDIES if _load(name).units])
def test_every_layer_of_a_recipe_is_in_its_network(name: str) -> None:
    for network, choices in _load(name).units.layers:
        for choice in choices:
            features = features_at(
                build(network.model), choice.layer, before_activation=choice.before_activation, pooling=choice.pooling
            )
            assert len(features.output_shape) == 2


@pytest.mark.parametrize("name", [name for name in STUDIES if _load(name).arms])
def test_every_pool_of_a_recipe_has_its_layer(name: str) -> None:
    arms = _load(name).arms.arms
    for arm in arms:
        if isinstance(arm.training, AdversarialTraining):
            network = build(arm.model)
            for pool in arm.training.pools:
                assert cut_at(network, pool.layer).above.output_shape == (None, 10)
