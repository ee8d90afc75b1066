"""The work of SpectralAnalyzer."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from components.artifacts import DistortedImages
from components.contract import Artifacts, Executor, Parameters
from components.records import BoundsRecord, LayerBoundRecord
from intriguing.lipschitz import LayerBound, certified_distortion, check_bounded, check_certifiable, lipschitz_bound
from intriguing.models.layer_graph import layer_graph
from intriguing.pixels import PixelBox


class SpectralAnalyzerExecutor(Executor):
    """Bounds the network, certifies every image that was attacked, if there are any, and compares the two sides."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes `SpectralBounds`."""
        trained, output = input_dict["model"][0], output_dict["bounds"][0]
        name, model = trained.record().name, trained.load()
        check_bounded(model)
        if input_dict["distorted"]:  # raises errors before norms are computed, which may take minutes
            check_certifiable(model)
        bound = lipschitz_bound(model, report=lambda done, total: self.progress(done, total, "norms of layers"))
        operations = {step.operation.name: step.operation for step in layer_graph(model).steps}
        layers = tuple(_record(operations[layer.name], layer) for layer in bound.layers)
        record = BoundsRecord(name=name, upper=bound.upper, layers=layers)
        arrays = {key: np.zeros(0) for key in ("ids", "attacked", "certified", "by_product")}
        for distorted in input_dict["distorted"]:  # one, or none
            attack, arrays = distorted.record(), self._both_sides(name, model, distorted)
            targeted = _targeted(distorted.arrays())
            record = dataclasses.replace(record, dataset=attack.dataset, subset=attack.subset, targeted=targeted)
        output.write_arrays(arrays)
        output.write_record(record)

    def _both_sides(self, name: str, model: keras.Model, distorted: DistortedImages) -> dict[str, np.ndarray]:
        attack, arrays = distorted.record(), distorted.arrays()
        if attack.name != name:
            raise ValueError(f"the images must have been distorted for {name!r}; received some distorted for {attack.name!r}.")
        certificates = self._certify(model, arrays, attack.required_search().pixel_box)
        attacked = np.where(arrays["succeeded"], arrays["distortion"], np.nan)
        check_certificates(name, certificates["certified"], attacked, arrays["ids"])
        return {"ids": arrays["ids"], "attacked": attacked, **certificates}

    def _certify(self, model: keras.Model, arrays: dict[str, np.ndarray], pixel_box: PixelBox) -> dict[str, np.ndarray]:
        targets = arrays["targets"] if _targeted(arrays) else None
        certified, by_product = certified_distortion(
            model, arrays["images"], arrays["labels"], targets, bounds=pixel_box,
            report=lambda done, total: self.progress(done, total, "certified"),
        )  # fmt: skip
        return {"certified": certified.numpy(), "by_product": by_product.numpy()}


def _targeted(arrays: dict[str, np.ndarray]) -> bool:
    return bool((arrays["targets"] >= 0).all())


def check_certificates(name: str, certified: np.ndarray, attacked: np.ndarray, ids: np.ndarray) -> None:
    """Compares certified with attack distortions.

    Raises:
        ArithmeticError: If an attack found an image nearer than is possible, so that one of the two must be wrong.
    """
    broken = np.flatnonzero(certified > attacked)
    if broken.size:
        worst = broken[np.argmax(certified[broken] - attacked[broken])]
        raise ArithmeticError(
            f"{broken.size} of {len(ids)} images distorted for {name!r} are nearer than their certificates allow, such as "
            f"{ids[worst].decode()}: found at {attacked[worst]:.6g}, certified up to {certified[worst]:.6g}. One of the two is "
            "wrong; please report it with the model."
        )


def _record(layer: Any, bound: LayerBound) -> LayerBoundRecord:
    kernel, strides = getattr(layer, "kernel", None), getattr(layer, "strides", None)
    return LayerBoundRecord(
        name=bound.name,
        kind=bound.kind,
        size=None if kernel is None else tuple(int(size) for size in kernel.shape),
        strides=None if strides is None else tuple(strides),
        lower=bound.norm.lower,
        upper=bound.norm.upper,
        activation_lipschitz=bound.activation_lipschitz,
        cumulative=bound.cumulative,
    )
