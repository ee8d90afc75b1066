"""A study of photographs as a pipeline: a network with existing weights, a folder of images, one class for all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from components.artifacts import sha256_of
from components.attacker.component import Attacker
from components.attacker.executor import BYTES
from components.contract import Component
from components.example_gen.component import ExampleGen
from components.model_importer.component import ModelImporter
from components.model_importer.executor import RANDOM, check_source
from components.pipeline import folder_name
from components.reporter.component import NO_PARTS, Reporter
from components.settings import LayerChoice, to_parameters
from components.spectral_analyzer.component import SpectralAnalyzer
from components.unit_analyzer.component import UnitAnalyzer
from components.unit_analyzer.executor import KINDS
from intriguing.attack import PHOTOGRAPH_SEARCH, DistortionSearch
from intriguing.data import content_of, numbering_of
from intriguing.models.networks import zoo
from intriguing.units import UnitSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotographStudy:
    """A recipe for photographs: everything that determines the numbers, apart from the files, the seed and the machine.

    Attributes:
        title: Headline of the page.
        model: Zoo name of the network, whose weights come from a file.
        weights_channel_order: As `load_arrays` takes it.
        subset: Of the folder of photographs.
        shorter_side: As in `ImageFitting`.
        target: The class that every photograph is driven to.
        num_images: Photographs, drawn among those that the network gets right.
        batch_size: Photographs attacked at once.
        search: Budgets and tolerances. A second attack, with the same, looks among images of bytes only.
        layers: Whose units are shown; none for no such part.
        kinds: Of classes, as `attributes_of_kinds` takes them: what images have in common, of which each class has too few.
        units: How units are compared with directions.
        bounded: Zoo names of networks whose layers are bounded (Table 5), beside the one that is attacked; random weights.
    """

    title: str
    model: str
    weights_channel_order: str
    subset: str
    shorter_side: int
    target: int
    num_images: int = 64
    batch_size: int = 32
    search: DistortionSearch = PHOTOGRAPH_SEARCH
    layers: tuple[LayerChoice, ...] = ()
    kinds: Mapping[str, tuple[tuple[int, int], ...]]
    units: UnitSettings = UnitSettings()
    bounded: tuple[str, ...] = ()


def photograph_pipeline(
    study: PhotographStudy, *, workdir: Path, seed: int, photographs: Path, weights: Path, facts: dict[str, str]
) -> list[Component]:
    """Wires the steps of a study of photographs together.

    Args:
        study: The recipe.
        workdir: Folder of all the steps.
        seed: Of the sample, of random weights and of random directions.
        photographs: Folder of the images, `split/class/image`.
        weights: File with the weights of the network.
        facts: What the report shall say of the run.

    Returns:
        The steps, in an order in which they can run.

    Raises:
        FileNotFoundError: If a file or folder is not there.
        ValueError: If something lies in the folder where it does not belong.
    """
    for path, kind in ((photographs, "folder of photographs"), (weights, "file of weights")):
        if not path.exists():
            raise FileNotFoundError(f"there is no {kind} {str(path)!r}. Check the path.")
    model = _imported(study.model, str(weights), study.weights_channel_order, workdir, seed)
    network = zoo.build(study.model)
    height, width, _ = network.input_shape[1:]
    class_names, _ = numbering_of(photographs, num_classes=network.output_shape[-1])
    subset = ExampleGen(
        "subset_photographs", workdir, dataset=str(photographs.resolve()), data_dir="", manual_dir="", subset=study.subset,
        disjoint_from=[], image_size=[height, width], shorter_side=study.shorter_side, content=content_of(photographs),
        class_names=list(class_names),
    )  # fmt: skip
    attacks = [
        Attacker(
            f"attack_{folder_name(study.model)}{suffix}", workdir, model=model, subset=subset, num_images=study.num_images,
            only_correct=True, seed=seed, targeted=True, target=study.target, batch_size=study.batch_size,
            search=to_parameters(dataclasses.replace(study.search, quantization_levels=quantization_levels)), log_dir="",
        )
        for suffix, quantization_levels in (("", None), ("_bytes", BYTES))
    ]  # fmt: skip
    meanings = [
        UnitAnalyzer(
            f"units_{folder_name(study.model)}", workdir, model=model, subset=subset, controls=[],
            attributes={KINDS: {kind: [list(ends) for ends in ranges] for kind, ranges in study.kinds.items()}},
            layers=[dataclasses.asdict(choice) for choice in study.layers],
            settings=to_parameters(dataclasses.replace(study.units, seed=seed)),
        )
    ] if study.layers else []  # fmt: skip
    others = [_imported(name, RANDOM, "RGB", workdir, seed) for name in study.bounded]
    bounds = [
        SpectralAnalyzer(network.id.replace("model_", "spectra_", 1), workdir, model=network, distorted=[])
        for network in (model, *others)
        if study.bounded
    ]
    report = Reporter(
        "report", workdir, title=study.title, facts=facts,
        **{
            **NO_PARTS, "subsets": [subset], "photograph_attacks": attacks, "unit_meanings": meanings, "spectral_bounds": bounds
        },
    )  # fmt: skip
    return [model, subset, *attacks, *meanings, *others, *bounds, report]


def _imported(name: str, weights: str, channel_order: str, workdir: Path, seed: int) -> ModelImporter:
    check_source(name, weights)
    return ModelImporter(
        f"model_{folder_name(name)}", workdir, name=name, model=name, weights=weights, weights_channel_order=channel_order,
        files={} if weights == RANDOM else {weights: sha256_of(Path(weights))}, image_shape=[], scaling={}, probabilities=False,
        seed=seed,
    )  # fmt: skip
