"""The work of UnitAnalyzer."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from components.artifacts import DirectionArrays, LayerUnitArrays
from components.contract import Artifacts, Executor, Parameters
from components.example_gen.executor import card_of
from components.records import BasisTestRecord, LayerUnitsRecord, UnitsRecord
from components.settings import LayerChoice, unit_settings_from
from intriguing.data import DatasetCard, batches, load_ids, load_labels, num_examples
from intriguing.models import features_at
from intriguing.units import (
    MEASURES,
    Attributes,
    Measured,
    UnitAnalysis,
    UnitSettings,
    analyze_units,
    attributes_from_table,
    attributes_of_classes,
    attributes_of_kinds,
)

TRAINED, RANDOM_WEIGHTS, PIXELS = "trained", "random weights", "pixels"
CONTROLS = (RANDOM_WEIGHTS, PIXELS)

KINDS = "kinds"  # of classes, as `attributes_of_kinds` takes them; they take the place of a table
NUM_SHOWN = 8  # rows of a gallery
_BATCH_SIZE = 500
_ID_COLUMN = "id"


class _Space(NamedTuple):
    """A feature space to be analyzed."""

    choice: LayerChoice
    weights: str  # TRAINED or one of CONTROLS
    features: keras.Model


class UnitAnalyzerExecutor(Executor):
    """Compares bases layer by layer, and keeps the images of some units and directions, drawn at random."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes `UnitAnalyses`."""
        trained, output = input_dict["model"][0], output_dict["analyses"][0]
        card, split = card_of(input_dict["subset"][0])
        settings = unit_settings_from(exec_properties["settings"])
        if settings.num_top > num_examples(card, split):
            raise ValueError(
                f"num_top must be at most {num_examples(card, split)}, the number of images of {split!r}; received "
                f"{settings.num_top}. Ask for fewer."
            )
        choices = [LayerChoice(**values) for values in exec_properties["layers"]]
        spaces = list(_spaces(trained.load(), choices, exec_properties["controls"], card))
        attributes = _attributes(card, split, exec_properties["attributes"])
        layers, arrays = [], []
        for number, space in enumerate(spaces):
            self.progress(number, len(spaces), f"{space.choice.title}, {space.weights}")
            analysis = analyze_units(space.features, _examples(card, split, attributes), attributes, settings=settings)
            layers.append(_record(space, analysis))
            arrays.append(_arrays(analysis, settings))
        num_drawn = sum(space.weights == TRAINED for space in spaces)  # the networks themselves come before their controls
        output.write_layers(
            load_ids(card, split).astype(np.bytes_), [*_with_images(card, split, arrays[:num_drawn]), *arrays[num_drawn:]]
        )
        self.progress(len(spaces), len(spaces), "done")
        output.write_record(
            UnitsRecord(
                name=trained.record().name,
                dataset=card.name,
                subset=split,
                num_images=num_examples(card, split),
                attributes=tuple(attributes.names),
                layers=tuple(layers),
            )
        )


def _spaces(model: keras.Model, choices: Sequence[LayerChoice], controls: Sequence[str], card: DatasetCard) -> Iterator[_Space]:
    def features(of: keras.Model, choice: LayerChoice) -> keras.Model:
        return features_at(of, choice.layer, before_activation=choice.before_activation, pooling=choice.pooling)

    for choice in choices:
        yield _Space(choice, TRAINED, features(model, choice))
    if RANDOM_WEIGHTS in controls:
        untrained = _untrained(model)
        for choice in choices:
            yield _Space(choice, RANDOM_WEIGHTS, features(untrained, choice))
    if PIXELS in controls:
        pixels = keras.Sequential([keras.Input(card.image_shape), keras.layers.Flatten()])
        yield _Space(LayerChoice(layer="pixels"), PIXELS, pixels)


def _untrained(model: keras.Model) -> keras.Model:
    """Returns the network with new weights, drawn by its initializers, and the same scaling of images."""
    untrained = keras.models.clone_model(model)
    _copy_scaling(model, untrained)
    return untrained


def _copy_scaling(source: keras.Model, copy: keras.Model) -> None:
    """Copies the statistics of `Normalization` layers, which are measured on images and are no part of the configuration."""
    for layer, other in zip(source.layers, copy.layers, strict=True):
        if isinstance(layer, keras.Model):
            _copy_scaling(layer, other)
        elif isinstance(layer, keras.layers.Normalization) and layer.weights:
            other.set_weights(layer.get_weights())
            other.finalize_state()


def _attributes(card: DatasetCard, split: str, source: Mapping[str, Any]) -> Attributes:
    if not source:
        return attributes_of_classes(load_labels(card, split), card.class_names)
    if KINDS in source:
        return attributes_of_kinds(load_labels(card, split), source[KINDS])
    ids = [example.decode() for example in load_ids(card, split)]
    return attributes_from_table(ids, read_table(Path(source["path"])))


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """Reads attributes from a CSV file: a column `id` with the example ids, and a column for each attribute.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has no column `id`, or an id twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table of attributes at {path}. Pass a CSV file with a column {_ID_COLUMN!r}.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if _ID_COLUMN not in (reader.fieldnames or []):
            raise ValueError(
                f"{path} must have a column {_ID_COLUMN!r} with the example ids; received {reader.fieldnames or 'nothing'}."
            )
        rows = [{name: entry or "" for name, entry in row.items() if name is not None} for row in reader]
    table = {row.pop(_ID_COLUMN): row for row in rows}
    if len(table) != len(rows):
        raise ValueError(f"{path} names an id more than once: {len(rows)} rows, {len(table)} ids. Keep one row for each.")
    return table


def _examples(card: DatasetCard, split: str, attributes: Attributes) -> tf.data.Dataset:
    batch_size = min(_BATCH_SIZE, num_examples(card, split))
    padding = np.full(-len(attributes.groups) % batch_size, -1, np.int32)
    groups = tf.data.Dataset.from_tensor_slices(np.concatenate([attributes.groups, padding])).batch(batch_size)
    images = batches(card, split, batch_size=batch_size).map(lambda images, labels: images)
    return tf.data.Dataset.zip((images, groups))


def _record(space: _Space, analysis: UnitAnalysis) -> LayerUnitsRecord:
    return LayerUnitsRecord(
        layer=space.choice.title,
        weights=space.weights,
        num_features=analysis.num_features,
        num_constant=analysis.num_constant,
        num_units=int(analysis.units.shape[0]),
        tests={
            measure: BasisTestRecord(**{name: float(value) for name, value in test._asdict().items()})
            for measure, test in zip(MEASURES, analysis.tests, strict=True)
        },
        alphas=tuple(analysis.alphas.numpy().tolist()),
        along_rotations=analysis.along_rotations.numpy().tolist(),
    )


def _arrays(analysis: UnitAnalysis, settings: UnitSettings) -> LayerUnitArrays:
    drawn = np.random.default_rng(settings.seed).permutation(analysis.units.shape[0])[:NUM_SHOWN]
    bases = (
        DirectionArrays(top.examples.numpy(), _stacked(measured), measured.top_attribute.numpy())
        for top, measured in ((analysis.natural_top, analysis.natural), (analysis.random_top, analysis.random))
    )
    return LayerUnitArrays(analysis.units.numpy(), np.sort(drawn), *bases)


def _stacked(measured: Measured) -> np.ndarray:
    return np.stack([values.numpy() for values in measured.selectivity], axis=1)


def _with_images(card: DatasetCard, split: str, layers: Sequence[LayerUnitArrays]) -> list[LayerUnitArrays]:
    """Adds the top images of the shown units and directions, which one pass over the data set collects."""
    wanted = np.unique(np.concatenate([basis.top[layer.shown].ravel() for layer in layers for basis in layer[-2:]]))
    found, begin = [], 0
    for images, _ in batches(card, split, batch_size=min(_BATCH_SIZE, num_examples(card, split))):
        rows = wanted[(wanted >= begin) & (wanted < begin + len(images))] - begin
        found.append(tf.gather(images, rows).numpy())
        begin += len(images)
    pictures = np.concatenate(found)

    def with_images(basis: DirectionArrays, shown: np.ndarray) -> DirectionArrays:
        return basis._replace(images=pictures[np.searchsorted(wanted, basis.top[shown])])

    return [
        layer._replace(natural=with_images(layer.natural, layer.shown), random=with_images(layer.random, layer.shown))
        for layer in layers
    ]
