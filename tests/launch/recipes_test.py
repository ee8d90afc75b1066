"""Every recipe defines valid steps, networks and layers. The steps are not run."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

from components.contract import Component
from components.studies.data_sources import Locations
from components.studies.study import Study
from intriguing.models import build, features_at
from intriguing.models.layer_split import cut_at
from intriguing.models.networks.zoo import CONSTRUCTORS, PHOTOGRAPH_CONSTRUCTORS
from intriguing.names import check_name
from intriguing.training import AdversarialTraining
from launch import recipes

RECIPES = [module.name for module in pkgutil.iter_modules(recipes.__path__)]


def _load(name: str) -> Study:
    return pkgutil.resolve_name(f"launch.recipes.{name}:RECIPE")


def _steps(name: str, folder: Path) -> list[Component]:
    """Returns the steps of a recipe. The folder holds an empty photograph and an empty file of weights."""
    place = folder / "photographs" / "validation" / "n01440764"
    place.mkdir(parents=True)
    for file in (place / "photograph.png", folder / "weights.npz"):
        file.write_bytes(b"")
    locations = Locations(images=folder / "photographs", weights=folder / "weights.npz")
    return _load(name).steps(workdir=folder / "work", seed=0, facts={}, locations=locations)


def test_recipes_exist() -> None:
    assert "mnist_5k" in RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_define_a_study_and_document_their_command(name: str) -> None:
    assert isinstance(_load(name), Study)
    assert "python -m launch.reproduce" in pkgutil.resolve_name(f"launch.recipes.{name}").__doc__


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_steps_have_distinct_folders_and_follow_their_inputs(name: str, tmp_path: Path) -> None:
    steps = _steps(name, tmp_path)
    assert len({step.id for step in steps}) == len(steps)
    done: set[Path] = set()
    for step in steps:
        assert {artifact.uri for artifacts in step.inputs.values() for artifact in artifacts} <= done
        done.add(step.output.uri)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_networks_are_in_the_zoo(name: str, tmp_path: Path) -> None:
    models = [step.parameters["model"] for step in _steps(name, tmp_path) if "model" in step.parameters]
    assert models
    for model in models:
        check_name(model, {**CONSTRUCTORS, **PHOTOGRAPH_CONSTRUCTORS}, "model")


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_layers_exist_in_their_networks(name: str, tmp_path: Path) -> None:
    steps = {step.output.uri: step for step in _steps(name, tmp_path)}
    for step in (step for step in steps.values() if "layers" in step.parameters):
        (model,) = step.inputs["model"]
        network = build(steps[model.uri].parameters["model"])
        for choice in step.parameters["layers"]:
            choice = dict(choice)
            features = features_at(network, choice.pop("layer"), **choice)
            assert len(features.output_shape) == 2


def test_some_recipes_name_layers(tmp_path: Path) -> None:
    assert any("layers" in step.parameters for step in _steps("mnist_units", tmp_path))


@pytest.mark.parametrize("name", [name for name in RECIPES if "adversarial" in name])
def test_recipe_pools_have_valid_layer_names(name: str) -> None:
    (variants,) = (part.variants for part in _load(name).parts if hasattr(part, "variants"))
    pooled = [variant for variant in variants if isinstance(variant.training, AdversarialTraining)]
    assert pooled
    for variant in pooled:
        for pool in variant.training.pools:
            assert cut_at(build(variant.model), pool.layer).above.output_shape == (None, 10)
