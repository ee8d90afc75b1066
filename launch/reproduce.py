"""Reproduces a whole study: trains, attacks, measures transfer, and writes one page.

    python -m launch.reproduce
    python -m launch.reproduce --recipe=mnist --tfds_manual_dir=DIR --workdir=runs/mnist

Interrupted and started again, it goes on: finished steps are reused.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from pathlib import Path

from absl import flags

from components.contract import Component
from components.photograph_pipeline import PhotographStudy, photograph_pipeline
from components.pipeline import Study, study_pipeline
from components.runner import run
from intriguing.distribution.strategy import writes_files
from intriguing.names import check_name
from launch import accelerator_flags, recipes, tfds_flags

flags.adopt_module_key_flags(accelerator_flags)
flags.adopt_module_key_flags(tfds_flags)
_RECIPE = flags.DEFINE_string("recipe", "mnist_5k", "The study to reproduce; a module of launch/recipes.")


_PHOTOGRAPHS = flags.DEFINE_string("photographs", None, "Folder split/class/image, for recipes that are about photographs.")
_WEIGHTS = flags.DEFINE_string("weights", None, "File with the weights of their network, which these recipes need as well.")


def load_recipe(name: str) -> Study | PhotographStudy:
    """Imports a recipe of `launch/recipes`; an unknown name is answered with the nearest known one."""
    check_name(name, [module.name for module in pkgutil.iter_modules(recipes.__path__)], "recipe")
    return importlib.import_module(f"launch.recipes.{name}").RECIPE


def main() -> None:
    """Runs the pipeline, prints the tables, and says where the page is."""
    began = time.monotonic()
    steps = _steps(load_recipe(_RECIPE.value), accelerator_flags.workdir(default=f"runs/{_RECIPE.value}"))
    run(steps)
    if writes_files():
        _show(steps[-1])
        print(f"Finished in {time.monotonic() - began:.0f} s. Open {(steps[-1].output.uri / 'index.html').resolve()}")


def _steps(study: Study | PhotographStudy, workdir: Path) -> list[Component]:
    seed = flags.FLAGS.seed
    facts = {
        "Recipe": _RECIPE.value,
        "Command": f"python -m launch.reproduce --recipe={_RECIPE.value} --seed={seed}",
        "Seed": str(seed),
    }
    if isinstance(study, Study):
        facts |= {"Data set": study.dataset, **_settings(study)}
        return study_pipeline(
            study, workdir=workdir, seed=seed, data_dir=tfds_flags.data_dir(), manual_dir=tfds_flags.manual_dir(), facts=facts
        )
    if _PHOTOGRAPHS.value is None or _WEIGHTS.value is None:
        raise ValueError(
            f"the recipe {_RECIPE.value!r} needs photographs and the weights of a network. Pass --photographs=FOLDER, with "
            f"{study.subset}/class/image in it, and --weights=FILE."
        )
    facts |= {"Network": study.model, "Weights": Path(_WEIGHTS.value).name, "Search": str(study.search)}
    return photograph_pipeline(
        study, workdir=workdir, seed=seed, photographs=Path(_PHOTOGRAPHS.value), weights=Path(_WEIGHTS.value), facts=facts
    )


def _settings(study: Study) -> dict[str, str]:
    """Says of every part of the study how it was done."""
    facts = {}
    if study.networks or study.networks_on_first or study.networks_on_second:
        facts = {"Images attacked for each model": str(study.num_images), "Search": str(study.search)}
    networks = {f"Training of {network.name}": network for network in study.networks}
    networks |= {f"Training of {network.name} on P1": network for network in study.networks_on_first}
    networks |= {f"Training of {network.name} on P2": network for network in study.networks_on_second}
    if study.units:
        networks |= {f"Training of {network.name}": network for network, _ in study.units.layers}
        facts["Comparison of bases"] = str(study.units.settings)
    if study.arms:
        networks |= {f"Training of {arm.name}": arm for arm in study.arms.arms}
        facts |= {
            "Arms": f"{study.arms.num_seeds} seeds, trained on {study.arms.trained_on}, tested on {study.arms.tested_on}",
            "Search of the arms": str(study.arms.search) if study.arms.robustness else "none",
        }
    return facts | {name: str(network.training) for name, network in networks.items()}


def _show(reporter: Component) -> None:
    tables = reporter.output.uri / "tables"
    others = [tables / f"{name}.txt" for name in ("photographs", "units", "arm_errors", "arm_robustness")]
    for path in [*sorted(tables.glob("table_?.txt")), *(path for path in others if path.exists())]:
        sys.stdout.write(path.read_text() + "\n\n")


if __name__ == "__main__":
    accelerator_flags.run(main)
