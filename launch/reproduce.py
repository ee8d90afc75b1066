"""Reproduces a whole study: trains, attacks, measures transfer, and writes one page.

    python -m launch.reproduce
    python -m launch.reproduce --recipe=mnist --tfds_manual_dir=DIR --workdir=runs/mnist

A run that was interrupted continues when it is started again: finished steps are reused.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from pathlib import Path

from absl import flags

from components.artifacts import ReportSection
from components.runner import run
from components.studies.data_sources import Locations
from components.studies.study import Study
from intriguing.distribution.strategy import writes_files
from intriguing.names import check_name
from launch import accelerator_flags, recipes, tfds_flags

flags.adopt_module_key_flags(accelerator_flags)
flags.adopt_module_key_flags(tfds_flags)
_RECIPE = flags.DEFINE_string("recipe", "mnist_5k", "Name of the study: a module of launch/recipes.")
_PHOTOGRAPHS = flags.DEFINE_string("photographs", None, "Folder split/class/image, for recipes that read photographs.")
_WEIGHTS = flags.DEFINE_string("weights", None, "File with the weights of the network, for recipes that do not train one.")


def load_recipe(name: str) -> Study:
    """Imports a recipe of `launch/recipes`; the error for an unknown name offers the nearest known one."""
    check_name(name, [module.name for module in pkgutil.iter_modules(recipes.__path__)], "recipe")
    study = getattr(importlib.import_module(f"launch.recipes.{name}"), "RECIPE", None)
    if not isinstance(study, Study):
        raise TypeError(f"launch/recipes/{name}.py must define RECIPE, a Study; received {study!r}.")
    return study


def main() -> None:
    """Runs the pipeline, prints the tables and the path of the page."""
    began = time.monotonic()
    recipe, seed = _RECIPE.value, flags.FLAGS.seed
    command = f"python -m launch.reproduce --recipe={recipe} --seed={seed}"
    steps = load_recipe(recipe).steps(
        workdir=accelerator_flags.workdir(default=f"runs/{recipe}"), seed=seed, locations=_locations(),
        facts={"Recipe": recipe, "Command": command, "Seed": str(seed)},
    )  # fmt: skip
    run(steps)
    if writes_files():
        report = steps[-1]
        for section in report.inputs["sections"]:
            sys.stdout.writelines(f"{text}\n\n" for text in ReportSection(section.uri).printed())
        print(f"Finished in {time.monotonic() - began:.0f} s. Open {(report.output.uri / 'index.html').resolve()}")


def _locations() -> Locations:
    images, weights = (Path(flag).expanduser() if flag else None for flag in (_PHOTOGRAPHS.value, _WEIGHTS.value))
    return Locations(
        data_dir=tfds_flags.data_dir() or "", manual_dir=tfds_flags.manual_dir() or "", images=images, weights=weights
    )


if __name__ == "__main__":
    accelerator_flags.run(main)
