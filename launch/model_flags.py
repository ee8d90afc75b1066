"""The flags of the scripts that work on one network: one that launch.train wrote, or one that was trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags

from components.artifacts import TrainedModel
from components.runner import run
from launch import import_flags

flags.adopt_module_key_flags(import_flags)
_TRAINED_MODEL = flags.DEFINE_string("trained_model", None, "Folder that launch.train wrote. This or --model.")
_MODEL = flags.DEFINE_string(
    "model", None, "A .keras or .h5 file, keras.applications.NAME, or a name of the zoo such as SqueezeNet."
)
_NAME = flags.DEFINE_string("model_name", None, "Name of the model in folders and tables; its own name if omitted.")

flags.mark_flags_as_mutual_exclusive(["trained_model", "model"], required=True)


def network(workdir: Path) -> TrainedModel:
    """Returns the network of the flags; one that was trained elsewhere is imported into `workdir` first.

    Raises:
        ValueError: If the flags contradict each other, or there is no such model.
    """
    if _TRAINED_MODEL.value is None:
        importer = import_flags.importer(workdir, _MODEL.value or "", _NAME.value)
        run([importer])
        return importer.output
    import_flags.import_modules()
    if Path(_TRAINED_MODEL.value).is_file():
        raise ValueError(
            f"{_TRAINED_MODEL.value!r} is a file; expected a folder that launch.train wrote. Pass a file as --model."
        )
    trained = TrainedModel(_TRAINED_MODEL.value)
    trained.manifest()  # raises before any step runs if the artifact is incomplete
    return trained


def expected_data(trained: TrainedModel) -> dict[str, Any]:
    """Returns the image shape and the classes of a network, as arguments of `data_flags.subset_step`."""
    record = trained.record()
    return {
        "image_shape": record.image_shape,
        "num_classes": record.num_classes,
        "class_names": import_flags.class_names() or record.class_names,
    }
