"""Evaluates every network on the images that were distorted for every other, and counts the errors.

    python -m launch.measure_transfer --trained_models=runs/mine/train_A,runs/mine/train_B \\
        --distorted_images=runs/mine/attack_A,runs/mine/attack_B --workdir=runs/mine
    python -m launch.measure_transfer --models=mine.keras,yours.keras --distorted_images=FOLDER --clean_images=FOLDER

The second command evaluates networks that were trained elsewhere on distorted images that were saved as split/class/image,
with their originals. The flags of preprocessing apply to all --models. For a network with other preprocessing, run
launch.attack, which imports it into a folder model_NAME, and pass that folder as --trained_models.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from components.artifacts import MANIFEST, DistortedImages, TrainedModel
from components.folder_names import folder_name
from components.image_importer.component import ImageImporter
from components.runner import run
from components.studies.transfer_experiment import Experiment, transfer_table
from components.transfer_evaluator.component import TransferEvaluator
from intriguing.data import content_of, numbering_of
from intriguing.data.image_folder import list_images
from intriguing.distribution.strategy import writes_files
from intriguing.reporting import to_text, write_table
from intriguing.statistics.proportions import Proportion
from launch import accelerator_flags, import_flags
from launch.clean_accuracy import show_accuracy

flags.adopt_module_key_flags(accelerator_flags)
flags.adopt_module_key_flags(import_flags)
_TRAINED_MODELS = flags.DEFINE_list("trained_models", [], "Folders that launch.train wrote, separated by commas.")
_MODELS = flags.DEFINE_list("models", [], "Model files, keras.applications.NAME or names of the zoo, separated by commas.")
_DISTORTED = flags.DEFINE_list(
    "distorted_images", None, "Folders that launch.attack wrote, or folders split/class/image, separated by commas.",
    required=True,
)  # fmt: skip
_CLEAN = flags.DEFINE_string(
    "clean_images", None, "Folder with the originals of images that launch.attack did not write, under the same names."
)
_AMPLIFY_TO = flags.DEFINE_multi_float("amplify_to", [], "Also scale the perturbations to this distortion.")
_NOISE = flags.DEFINE_multi_float("noise", [0.1, 0.3], "Standard deviations of Gaussian noise, for comparison.")


def main() -> None:
    """Evaluates, saves the rates, and prints the table."""
    workdir = accelerator_flags.workdir(default="runs/steps")
    if not _DISTORTED.value:
        raise ValueError("--distorted_images must name at least one folder; received none.")
    models = _networks(workdir)
    attacks = [_attack(folder, workdir, models[0]) for folder in _DISTORTED.value]
    evaluator = TransferEvaluator(
        "transfer", workdir, models=models, distorted=attacks, subsets=[], amplify_to=_AMPLIFY_TO.value,
        noise=_NOISE.value, unclipped_noise=[], seed=flags.FLAGS.seed,
    )  # fmt: skip
    run([evaluator])
    if writes_files():
        _show(Experiment.read({"models": models, "attacks": attacks, "rates": [evaluator.output]}), workdir)


def _networks(workdir: Path) -> list[TrainedModel]:
    if not _TRAINED_MODELS.value and not _MODELS.value:
        raise ValueError("no network was named; pass --trained_models, folders that launch.train wrote, or --models, files.")
    import_flags.import_modules()
    files = [path for path in _TRAINED_MODELS.value if Path(path).is_file()] + _MODELS.value
    trained = [TrainedModel(folder) for folder in _TRAINED_MODELS.value if folder not in files]
    for model in trained:
        model.manifest()  # raises before any step runs if the artifact is incomplete
    importers = [import_flags.importer(workdir, model) for model in files]
    names = [importer.id for importer in importers]
    if len(set(names)) < len(names):
        raise ValueError(f"model files must have names of their own; received {','.join(files)!r}. Rename one of them.")
    run(importers)
    return [*trained, *(importer.output for importer in importers)]


def _attack(folder: str, workdir: Path, model: TrainedModel) -> DistortedImages:
    path = Path(folder).expanduser()
    if (path / MANIFEST).is_file() or not path.is_dir():
        attack = DistortedImages(path)
        attack.manifest()
        return attack
    if _CLEAN.value is None:
        raise ValueError(
            f"{folder!r} is not a folder that launch.attack wrote. If it holds distorted images, split/class/image, pass the "
            "folder of their originals as --clean_images."
        )
    importer = _image_importer(path.resolve(), Path(_CLEAN.value).expanduser().resolve(), workdir, model)
    run([importer])
    return importer.output


def _image_importer(distorted: Path, clean: Path, workdir: Path, model: TrainedModel) -> ImageImporter:
    record = model.record()
    shape = list(record.image_shape or model.load().input_shape[1:])
    known = import_flags.class_names() or record.class_names
    numbering, _ = numbering_of(clean, num_classes=record.num_classes, class_names=known)
    return ImageImporter(
        f"images_{folder_name(distorted.name)}", workdir, name=distorted.name, distorted=str(distorted), clean=str(clean),
        contents=[content_of(distorted), content_of(clean)], image_size=shape[:2], num_channels=shape[-1],
        class_names=list(numbering or list_images(clean).class_names),
    )  # fmt: skip


def _show(experiment: Experiment, workdir: Path) -> None:
    for name, num_classes in experiment.rates.num_classes.items():
        errors = next(experiment.changed("noise", "distorted")).errors[name]
        show_accuracy(name, Proportion(errors.on_correct.num_trials, errors.on_all.num_trials), num_classes)
    table = transfer_table(experiment)
    print(to_text(table))
    print("Written to", *write_table(table, workdir))


if __name__ == "__main__":
    accelerator_flags.run(main)
