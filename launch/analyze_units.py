"""Compares single units of layers with random directions, and draws the images that excite both most.

python -m launch.analyze_units --trained_model=runs/mine/train_FC100-100-10 --layers=hidden1,hidden2 --workdir=runs/mine

Writes a page with the test, the figures and the galleries, and all of them as files.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from absl import flags

from components.artifacts import sha256_of
from components.folder_names import folder_name
from components.reporter.component import Reporter
from components.runner import run
from components.settings import LayerChoice, to_parameters
from components.studies.unit_comparison import UnitSection
from components.unit_analyzer.component import UnitAnalyzer
from components.unit_analyzer.executor import CONTROLS, read_table
from intriguing.distribution.strategy import writes_files
from intriguing.models.activations import POOLINGS
from intriguing.units import SCALINGS, UnitSettings
from launch import accelerator_flags, data_flags, model_flags

flags.adopt_module_key_flags(accelerator_flags)
flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(model_flags)
_LAYERS = flags.DEFINE_list("layers", None, "Names of the layers to analyze, separated by commas.", required=True)
_POOLING = flags.DEFINE_enum("pooling", None, POOLINGS, "How spatial axes are reduced; required for layers that have some.")
_BEFORE = flags.DEFINE_bool("before_activation", False, "Analyze the layers before their activation functions.")
_CONTROLS = flags.DEFINE_bool("controls", True, "Also analyze random weights and raw pixels, for comparison.")
_ATTRIBUTES = flags.DEFINE_string(
    "attributes", None, "CSV file with a column id and a column for each attribute of an image; its class if omitted."
)
_NUM_TOP = flags.DEFINE_integer("num_top", 10, "Number of top images of each direction.", lower_bound=1, upper_bound=256)
_NUM_BASES = flags.DEFINE_integer("num_random_bases", 100, "Number of Haar-random bases to compare with.", lower_bound=1)
_SCALING = flags.DEFINE_enum("scaling", "standardized", SCALINGS, "How features are scaled before their basis is rotated.")
_MAX_UNITS = flags.DEFINE_integer(
    "max_units", 256, "Number of units that are drawn at random from a larger layer.", lower_bound=2
)


def main() -> None:
    """Analyzes, writes the page, and prints the tests."""
    workdir, layers = accelerator_flags.workdir(default="runs/steps"), _layers()
    trained = model_flags.network(workdir)
    name = folder_name(trained.record().name)
    settings = UnitSettings(
        num_top=_NUM_TOP.value, num_random_bases=_NUM_BASES.value, scaling=_SCALING.value, max_units=_MAX_UNITS.value,
        num_rotations=min(UnitSettings().num_rotations, _NUM_BASES.value), seed=flags.FLAGS.seed,
    )  # fmt: skip
    subset = data_flags.subset_step(workdir, **model_flags.expected_data(trained))
    analyzer = UnitAnalyzer(
        f"units_{name}", workdir, model=trained, subset=subset, settings=to_parameters(settings), layers=layers,
        controls=list(CONTROLS) if _CONTROLS.value else [], attributes=_attributes(),
    )  # fmt: skip
    section = UnitSection(f"section_units_{name}", workdir, analyses=analyzer)
    reporter = Reporter(
        f"report_units_{name}", workdir, title=f"Units and directions of {trained.record().name}", facts={},
        sections=section,
    )  # fmt: skip
    run([subset, analyzer, section, reporter])
    if writes_files():
        print(*section.output.printed(), sep="\n\n")
        print(f"Open {(reporter.output.uri / 'index.html').resolve()}")


def _layers() -> list[dict[str, object]]:
    if not _LAYERS.value:
        raise ValueError("--layers must name at least one layer; received none.")
    choices = [LayerChoice(layer=layer, before_activation=_BEFORE.value, pooling=_POOLING.value) for layer in _LAYERS.value]
    return [dataclasses.asdict(choice) for choice in choices]


def _attributes() -> dict[str, str]:
    if _ATTRIBUTES.value is None:
        return {}
    path = Path(_ATTRIBUTES.value)
    read_table(path)  # raises before the analysis if the file cannot be read
    return {"path": str(path.resolve()), "sha256": sha256_of(path)}


if __name__ == "__main__":
    accelerator_flags.run(main)
