"""The content of the JSON files of artifacts, as typed records."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from intriguing.evaluation.transfer import ErrorRates
from intriguing.pixels import PixelBox
from intriguing.statistics.proportions import Proportion
from intriguing.training.adversarial import Round


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubsetRecord:
    """A slice of a data set.

    Attributes:
        dataset: Name of TFDS, or path of a folder.
        subset: Split expression.
        num_examples: Number of examples.
        image_shape: Height, width, channels.
        num_classes: Number of classes.
        data_dir: Where TFDS keeps the data set; "" for its own folder.
        image_size: To which images are resized; () for their own.
        shorter_side: As in `ImageResizing`; 0 for none.
        content: Changes whenever the images of a folder do.
        num_channels: Of images in a folder.
        class_names: That number the classes of a folder; () for their own order.
    """

    dataset: str
    subset: str
    num_examples: int
    image_shape: tuple[int, ...]
    num_classes: int
    data_dir: str = ""
    image_size: tuple[int, ...] = ()
    shorter_side: int = 0
    content: str = ""
    num_channels: int = 3
    class_names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """A network after training, or with weights from elsewhere.

    Attributes:
        name: In tables.
        model: Zoo name, name of `keras.applications`, or path of a model file.
        image_shape: Height, width, channels; () if unknown.
        num_classes: Number of classes; None if unknown.
        class_names: In the order of the outputs; () if unknown.
        dataset: On which it was trained; "" if the network was trained elsewhere, and so below.
        subset: Split expression.
        seed: Of weights and order.
        losses: Of each epoch, round or report.
        converged: Whether training ended by itself; None where there is no such end.
        train_errors: On its training subset.
        rounds: What happened in every round of adversarial training.
        weights: Where the weights of a network come from that was trained elsewhere.
    """

    name: str
    model: str
    image_shape: tuple[int, ...] = ()
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()
    dataset: str = ""
    subset: str = ""
    seed: int | None = None
    losses: tuple[float, ...] = ()
    converged: bool | None = None
    train_errors: Proportion | None = None
    rounds: tuple[Round, ...] = ()
    weights: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchRecord:
    """What a search found.

    Attributes:
        pixel_box: Legal pixel values.
        quantization_levels: Of a pixel; None for any value.
        num_classes: Of the network.
        clean_accuracy: Of the network on the images from which the attacked ones were drawn.
        num_images: Attacked.
        num_succeeded: Of these.
        num_succeeded_among_correct: Of the images that the network classified correctly before.
        num_surviving_rounding: Attacks that still succeed after pixels were rounded to bytes.
        mean_distortion: Over `num_succeeded_among_correct`; NaN without any.
        mean_num_evaluations: Gradients per image.
        num_images_by_status: From the sentence of each status to its number of images.
    """

    pixel_box: PixelBox
    quantization_levels: int | None
    num_classes: int
    clean_accuracy: Proportion
    num_images: int
    num_succeeded: int
    num_succeeded_among_correct: int
    num_surviving_rounding: int
    mean_distortion: float
    mean_num_evaluations: float
    num_images_by_status: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackRecord:
    """Distorted images of one network.

    Attributes:
        name: Of the network.
        dataset: Of the original images.
        subset: Split expression.
        class_names: Of the data set.
        search: What a search found; None for images that were distorted elsewhere.
    """

    name: str
    dataset: str
    subset: str
    class_names: tuple[str, ...]
    search: SearchRecord | None = None

    def required_search(self) -> SearchRecord:
        """Returns what a search found.

        Raises:
            ValueError: If the images were distorted elsewhere.
        """
        if self.search is None:
            raise ValueError(f"the images of {self.name} were distorted elsewhere; expected the results of a search.")
        return self.search


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangedImagesRecord:
    """One set of changed images, as a `TransferRow`.

    Attributes:
        kind: "distorted", "amplified", "noise" or "unclipped noise".
        source_model: The network that was attacked; "" for noise.
        amount: The requested distortion or standard deviation; None for "distorted".
        mean_distortion: The realized distortion; NaN without images.
        std_distortion: Standard deviation of the sample; NaN for fewer than two images.
        num_images: Number of images.
        errors: Of each evaluated network.
        predictions: Of each evaluated network for the changed images.
    """

    kind: str
    source_model: str
    amount: float | None
    mean_distortion: float
    std_distortion: float
    num_images: int
    errors: Mapping[str, ErrorRates]
    predictions: Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferRecord:
    """Errors of networks on clean and on changed images.

    Attributes:
        num_classes: Of each network, in the order of the tables.
        errors: For each subset, the errors of each network.
        wrong: For each subset, the rows that each network misclassifies.
        changed: The sets of changed images.
        noise_seed: Seed of the noise.
    """

    num_classes: Mapping[str, int]
    errors: Mapping[str, Mapping[str, Proportion]]
    wrong: Mapping[str, Mapping[str, tuple[int, ...]]]
    changed: tuple[ChangedImagesRecord, ...]
    noise_seed: int

    @property
    def networks(self) -> list[str]:
        """The names of the evaluated networks."""
        return list(self.num_classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BasisTestRecord:
    """The natural basis compared with random bases by one measure, as `BasisTest`; NaN for numbers that are not finite."""

    natural: float
    random: float
    effect: float
    effect_lower: float
    effect_upper: float
    p_more: float
    p_less: float
    tail_more: float
    tail_less: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerUnitsRecord:
    """The units of one layer, or of a control.

    Attributes:
        layer: In words.
        weights: "trained", or the name of a control.
        num_features: Of the layer.
        num_constant: Features that never change, which are left out.
        num_units: That were compared.
        tests: For each measure.
        alphas: Powers of the rotations from the natural basis to a random one.
        along_rotations: `[alphas, rotations, measures]`, means over the directions of the rotated bases.
    """

    layer: str
    weights: str
    num_features: int
    num_constant: int
    num_units: int
    tests: Mapping[str, BasisTestRecord]
    alphas: tuple[float, ...]
    along_rotations: tuple[tuple[tuple[float, ...], ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitsRecord:
    """The analysis of some layers of one network.

    Attributes:
        name: Of the network.
        dataset: Of the images.
        subset: Split expression.
        num_images: Number of images.
        attributes: Names of the attributes that images can share.
        layers: First the layers of the network, then the controls.
    """

    name: str
    dataset: str
    subset: str
    num_images: int
    attributes: tuple[str, ...]
    layers: tuple[LayerUnitsRecord, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerBoundRecord:
    """The bounds of one layer, as `LayerBound`.

    Attributes:
        name: Of the layer.
        kind: Its class.
        size: Shape of its kernel; None without one.
        strides: None without any.
        lower: Of its operator norm.
        upper: Of its operator norm.
        activation_lipschitz: Lipschitz constant of its activation function.
        cumulative: Bound from the input of the network to the output of the layer.
    """

    name: str
    kind: str
    size: tuple[int, ...] | None
    strides: tuple[int, ...] | None
    lower: float
    upper: float
    activation_lipschitz: float
    cumulative: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundsRecord:
    """The bounds of one network, and which images were certified.

    Attributes:
        name: Of the network.
        upper: Bound of its Lipschitz constant.
        layers: Bounds of its layers.
        dataset: Of the images; "" if none was certified, and so below.
        subset: Split expression.
        targeted: Whether the attack had target classes.
    """

    name: str
    upper: float
    layers: tuple[LayerBoundRecord, ...]
    dataset: str = ""
    subset: str = ""
    targeted: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class SectionRecord:
    """What a page needs to know of a section.

    Attributes:
        lead: The finding in a sentence or two; "" if there is none.
        fragments: For each heading of the section, the heading and its HTML.
        printed: Names of the tables that the page shows, in its order.
        seconds: From the name of each step that the section reads to the seconds that the step took.
        machine: On which they ran.
    """

    lead: str
    fragments: tuple[tuple[str, ...], ...]
    printed: tuple[str, ...]
    seconds: Mapping[str, float]
    machine: str
