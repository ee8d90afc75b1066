"""Bounds a trained network layer by layer, and compares the certified distortion of each image with that of an attack.

python -m launch.bound_spectra --trained_model=runs/mine/train_FC100-100-10 --workdir=runs/mine --num_images=256

Writes a page with the norms of the layers, the two sides and a figure, and all of them as files.
"""

from __future__ import annotations

from absl import flags

from components.folder_names import folder_name
from components.reporter.component import Reporter
from components.runner import run
from components.spectral_analyzer.component import SpectralAnalyzer
from components.studies.lipschitz_bounds import BoundSection
from intriguing.distribution.strategy import writes_files
from intriguing.lipschitz import check_bounded, check_certifiable
from launch import accelerator_flags, attack_flags, data_flags, model_flags
from launch.clean_accuracy import show_clean_accuracy

for module in (accelerator_flags, attack_flags, data_flags, model_flags):
    flags.adopt_module_key_flags(module)


def main() -> None:
    """Attacks, certifies, writes the page, and prints the tables."""
    workdir = accelerator_flags.workdir(default="runs/steps")
    trained = model_flags.network(workdir)
    model = trained.load()
    check_bounded(model)  # before the attack, which may take long
    check_certifiable(model)
    title = trained.record().name
    name = folder_name(title)
    subset = data_flags.subset_step(workdir, **model_flags.expected_data(trained))
    run([subset])
    attacker = attack_flags.attack_step(workdir, trained, subset)
    analyzer = SpectralAnalyzer(f"spectra_{name}", workdir, model=trained, distorted=attacker)
    section = BoundSection(f"section_spectra_{name}", workdir, bounds=analyzer)
    reporter = Reporter(
        f"report_spectra_{name}", workdir, title=f"Certified distortion of {title}", facts={},
        sections=section,
    )  # fmt: skip
    run([attacker, analyzer, section, reporter])
    if writes_files():
        show_clean_accuracy(attacker.output.record())
        print(*section.output.printed(), sep="\n\n")
        print(f"Open {(reporter.output.uri / 'index.html').resolve()}")


if __name__ == "__main__":
    accelerator_flags.run(main)
