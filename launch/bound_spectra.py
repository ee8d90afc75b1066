"""Bounds a trained network layer by layer, and puts what is certain of each image beside what an attack finds.

python -m launch.bound_spectra --trained_model=runs/mine/train_FC100-100-10 --workdir=runs/mine --num_images=256

Writes a page with the norms of the layers, the two sides and a figure, and all of them as files.
"""

from __future__ import annotations

from absl import flags

from components.artifacts import TrainedModel
from components.attacker.component import Attacker
from components.pipeline import folder_name
from components.reporter.component import NO_PARTS, Reporter
from components.runner import run
from components.settings import SEARCHES, to_parameters
from components.spectral_analyzer.component import SpectralAnalyzer
from intriguing.accelerators import writes_files
from launch import accelerator_flags, data_flags

flags.adopt_module_key_flags(accelerator_flags)
flags.adopt_module_key_flags(data_flags)
_TRAINED_MODEL = flags.DEFINE_string("trained_model", None, "Folder that launch.train wrote.", required=True)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 256, "Images to sample, certify and attack.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images attacked at once.", lower_bound=1)
_TARGETED = flags.DEFINE_bool("targeted", True, "Ask of a random wrong class for each image; otherwise of any wrong class.")
_SEARCH = flags.DEFINE_enum("search", "default", list(SEARCHES), "How the attack searches.")


def main() -> None:
    """Attacks, certifies, writes the page, and prints both sides."""
    trained = TrainedModel(_TRAINED_MODEL.value)
    trained.manifest()  # what is not a whole trained model is refused before anything runs
    title = trained.training()["name"]
    name = folder_name(title)
    workdir = accelerator_flags.workdir(default="runs/steps")
    subset = data_flags.subset_step(workdir)
    attacker = Attacker(
        f"attack_{name}", workdir, model=trained, subset=subset, num_images=_NUM_IMAGES.value,
        batch_size=min(_BATCH_SIZE.value, _NUM_IMAGES.value), targeted=_TARGETED.value, seed=flags.FLAGS.seed,
        search=to_parameters(SEARCHES[_SEARCH.value]), log_dir="",
    )  # fmt: skip
    analyzer = SpectralAnalyzer(f"spectra_{name}", workdir, model=trained, distorted=attacker)
    reporter = Reporter(
        f"report_spectra_{name}", workdir, title=f"What is certain of {title}", facts={},
        **{**NO_PARTS, "subsets": [subset], "spectral_bounds": [analyzer]},
    )  # fmt: skip
    run([subset, attacker, analyzer, reporter])
    if writes_files():
        for table in ("table_5", "sandwich"):
            print((reporter.output.uri / "tables" / f"{table}.txt").read_text())
        print(f"Open {(reporter.output.uri / 'index.html').resolve()}")


if __name__ == "__main__":
    accelerator_flags.run(main)
