"""The work of SpectralAnalyzer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from components.artifacts import DistortedImages
from components.contract import Artifacts, Executor, Parameters
from intriguing.lipschitz import LayerBound, certified_distortion, check_bounded, check_certifiable, lipschitz_bound
from intriguing.models.layer_graph import layer_graph
from intriguing.pixels import PixelBox


class SpectralAnalyzerExecutor(Executor):
    """Bounds the network, certifies every image that was attacked, if there are any, and compares the two sides."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes `SpectralBounds`."""
        trained, output = input_dict["model"][0], output_dict["bounds"][0]
        name, model = trained.training()["name"], trained.load()
        check_bounded(model)
        if input_dict["distorted"]:  # what no certificate exists for is told before norms are computed, which may take minutes
            check_certifiable(model)
        bound = lipschitz_bound(model, report=lambda done, total: self.progress(done, total, "norms of layers"))
        about = {"dataset": None, "subset": None, "targeted": None}
        arrays = {key: np.zeros(0) for key in ("ids", "attacked", "certified", "by_product")}
        for distorted in input_dict["distorted"]:  # one, or none
            about, arrays = self._both_sides(name, model, distorted)
        output.write_arrays(arrays)
        operations = {step.operation.name: step.operation for step in layer_graph(model).steps}
        layers = [_described(operations[layer.name], layer) for layer in bound.layers]
        output.write_json("bounds.json", {"name": name, **about, "upper": bound.upper, "layers": layers})

    def _both_sides(
        self, name: str, model: keras.Model, distorted: DistortedImages
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        attack, arrays = distorted.attack(), distorted.arrays()
        if attack["name"] != name:
            raise ValueError(f"the images must have been made against {name!r}; received some made against {attack['name']!r}.")
        certificates = self._certify(model, arrays, PixelBox(*attack["pixel_box"]))
        attacked = np.where(arrays["succeeded"], arrays["distortion"], np.nan)
        check_certificates(name, certificates["certified"], attacked, arrays["ids"])
        about = {"dataset": attack["dataset"], "subset": attack["subset"], "targeted": _targeted(arrays)}
        return about, {"ids": arrays["ids"], "attacked": attacked, **certificates}

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
            f"{broken.size} of {len(ids)} images made against {name!r} are nearer than their certificates allow, as "
            f"{ids[worst].decode()}: found at {attacked[worst]:.6g}, certified up to {certified[worst]:.6g}. One of the two is "
            "wrong; please report it with the model."
        )


def _described(layer: Any, bound: LayerBound) -> dict[str, Any]:
    kernel, strides = getattr(layer, "kernel", None), getattr(layer, "strides", None)
    return {
        "name": bound.name,
        "kind": bound.kind,
        "size": None if kernel is None else [int(size) for size in kernel.shape],
        "strides": None if strides is None else list(strides),
        "lower": bound.norm.lower,
        "upper": bound.norm.upper,
        "slope": bound.slope,
        "so_far": bound.so_far,
    }
