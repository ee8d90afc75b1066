"""Compares distortion and time of the attack with Foolbox and SciPy on the same MNIST images and machine.

    python -m tests.benchmarks.peers runs/mnist/train_FC100-100-10 runs/mnist/train_FC200-200-10

It prints one table for each network: three searches of this library, and DDN and C&W of Foolbox on the same network converted to
PyTorch. For the first network it also prints images per second compared with L-BFGS-B of SciPy, which attacks one image at a
time, and the growth of memory and of the number of compiled programs.

Requires `pip install -e ".[peers]"`, Linux, two CPU cores without other load, because it reports elapsed seconds, and 3 GB of memory.
C&W takes most of the time, some minutes for a convolutional network. `--quick_peers` omits it and takes a minute per network.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# Set before NumPy is imported. Vectors of L-BFGS-B are too short for threads: with other load, two threads were six times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from components.artifacts import TrainedModel
from intriguing.attack import QUICK_SEARCH, SZEGEDY_LBFGS, DistortionResults, DistortionSearch, minimize_distortion, objective
from intriguing.attack.search_program import compiled_search
from intriguing.data import dataset_card, random_targets, sample_examples
from intriguing.models.functional import Architecture, split_weights
from launch import tfds_flags

try:
    import foolbox
    import scipy.optimize
    import torch
except ModuleNotFoundError as error:
    sys.exit(f'{error.name} is not installed, and it is a peer to compare with. Run `pip install -e ".[peers]"`.')

flags.adopt_module_key_flags(tfds_flags)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 128, "Images attacked at once, for the tables.", lower_bound=1)
_TARGETED = flags.DEFINE_bool("targeted", True, "Attack toward a random wrong class. Otherwise toward any wrong class.")
_QUICK_PEERS = flags.DEFINE_bool("quick_peers", False, "Omit C&W.")

SEED = 0
SEARCHES = {"ours, quick": QUICK_SEARCH, "ours, default": DistortionSearch(), "ours, the paper's": SZEGEDY_LBFGS}
ATTACKS = {
    "DDN 100": foolbox.attacks.DDNAttack(steps=100),
    "DDN 1000": foolbox.attacks.DDNAttack(steps=1000),
    "C&W 9x1000": foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=9, steps=1000),
}
PROBE = foolbox.attacks.DDNAttack(steps=20)  # its time determines the number of threads of PyTorch
SLOW_ATTACKS = ("C&W 9x1000",)
LOGITS_TOLERANCE = 1e-3  # float32 sums in another order; a wrongly converted kernel gives errors above one
GRADIENT_CALLS = 30  # the time of a gradient is their median
THROUGHPUT_IMAGES = 1000
SCIPY_IMAGES = 8
BRACKET_RATIO = 1.02  # as in Bisection, the paper's search
C_RANGE = (1e-12, 1e12)
CONSTANCY_IMAGES, CONSTANCY_WARM_UPS, CONSTANCY_CALLS = 8, 3, 100


@dataclass(frozen=True)
class Problem:
    """Images and their target classes."""

    images: np.ndarray  # [images, height, width, channels] float32
    classes: np.ndarray  # [images] int32: targets, or labels
    num_classes: int
    targeted: bool

    @property
    def goal(self) -> dict[str, np.ndarray]:
        """The keyword argument of `minimize_distortion`."""
        return {"targets" if self.targeted else "labels": self.classes}

    @property
    def accepted(self) -> tf.Tensor:
        """Bool `[images, classes]`, the predictions that count as success."""
        return objective.accepted_classes(self.classes, self.num_classes, targeted=self.targeted)

    def rows(self, start: int, stop: int) -> Problem:
        """Returns some of the images."""
        return Problem(self.images[start:stop], self.classes[start:stop], self.num_classes, self.targeted)


class Outcome(NamedTuple):
    """The distortions and the cost of a method."""

    distortion: np.ndarray  # [images], NaN where not found
    seconds: float
    compile_seconds: float = np.nan
    num_evaluations: float = np.nan  # mean over the images
    overhead: float = np.nan  # time relative to that of as many gradients of the whole batch


def main(argv: Sequence[str]) -> None:
    if len(argv) < 2:
        raise app.UsageError("pass folders of trained models, such as runs/mnist/train_FC100-100-10.")
    logging.set_verbosity(logging.WARNING)  # TFDS logs every read
    problem = sample_problem(_NUM_IMAGES.value, targeted=_TARGETED.value)
    models = {folder: TrainedModel(folder).load() for folder in argv[1:]}
    for folder, model in models.items():
        name = TrainedModel(folder).record().name
        goal = "random targets" if problem.targeted else "any wrong class"
        print(f"\n{name}, {len(problem.images)} training images, {goal}", flush=True)
        show(compare(model, problem))
    model = models[argv[1]]
    many = sample_problem(THROUGHPUT_IMAGES, targeted=_TARGETED.value)
    print(f"\nThe rest is on {TrainedModel(argv[1]).record().name}.", flush=True)
    measure_throughput(model, many)
    measure_constancy(model, many)


def sample_problem(num_images: int, *, targeted: bool) -> Problem:
    """Draws training images of MNIST, with random targets or their labels."""
    card = dataset_card("mnist", data_dir=tfds_flags.data_dir(), manual_dir=tfds_flags.manual_dir())
    examples = sample_examples(card, "train", num_images=num_images, seed=SEED)
    classes = random_targets(examples.labels, card.num_classes, seed=SEED) if targeted else examples.labels
    return Problem(examples.images.numpy(), classes.numpy(), card.num_classes, targeted)


def compare(model: keras.Model, problem: Problem) -> dict[str, Outcome]:
    """Runs this library and the peers alternately, so that a slow period of the machine affects both."""
    network = convert_to_torch(model)
    check_logits(model, network, problem.images)
    threads = choose_torch_threads(network, problem)
    print(f"PyTorch on {threads} of {os.cpu_count()} cores, its fastest; load average {os.getloadavg()[0]:.2f}", flush=True)
    gradient = batch_gradient(model, problem)
    attacks = {name: attack for name, attack in ATTACKS.items() if not (_QUICK_PEERS.value and name in SLOW_ATTACKS)}
    outcomes: dict[str, Outcome] = {}
    for (name, search), peer in itertools.zip_longest(SEARCHES.items(), attacks):
        outcomes[name] = run_ours(model, problem, search, gradient)
        if peer is not None:
            outcomes[peer] = run_peer(network, problem, attacks[peer])
    return {name: outcomes[name] for name in [*SEARCHES, *attacks]}


def run_ours(model: keras.Model, problem: Problem, search: DistortionSearch, gradient: Callable[[], Any]) -> Outcome:
    """Attacks twice: the first call compiles, and the second is measured between two measurements of a gradient."""

    def attack() -> DistortionResults:
        found = minimize_distortion(model, problem.images, search=search, **problem.goal)
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), found)

    _, first_seconds = timed(attack)
    before = gradient_seconds(gradient)
    found, seconds = timed(attack)
    after = gradient_seconds(gradient)
    evaluations = float(np.mean(found.num_evaluations))
    overhead = seconds / (evaluations * (before + after) / 2) if evaluations else np.nan
    return Outcome(found.distortion, seconds, first_seconds - seconds, evaluations, overhead)


def run_peer(network: torch.nn.Module, problem: Problem, attack: Any) -> Outcome:
    """Attacks with Foolbox, which compiles nothing. The attacked network decides success."""
    torch.manual_seed(SEED)  # DDN draws a random direction if the gradient vanishes
    images, classes = to_channels_first(problem.images), torch.tensor(problem.classes.astype(np.int64))
    criterion = foolbox.criteria.TargetedMisclassification if problem.targeted else foolbox.criteria.Misclassification
    bounded = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    (distorted, *_), seconds = timed(lambda: attack(bounded, images, criterion(classes), epsilons=None))
    predictions = network(distorted).argmax(1).numpy()
    found = (predictions == problem.classes) == problem.targeted
    return Outcome(np.where(found, root_mean_square((distorted - images).numpy()), np.nan), seconds)


def choose_torch_threads(network: torch.nn.Module, problem: Problem) -> int:
    """Sets the fastest number of threads of PyTorch, for a fair comparison.

    Its threads are synchronized after every operation. On small networks, or with other load, one thread per core was up to
    seventy times slower than a single thread.
    """
    seconds = {}
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        seconds[threads] = min(run_peer(network, problem, PROBE).seconds for _ in range(3))
    fastest = min(seconds, key=lambda threads: seconds[threads])
    torch.set_num_threads(fastest)
    return fastest


def convert_to_torch(model: keras.Model) -> torch.nn.Module:
    """Builds the same network in PyTorch with frozen weights, so that peers do not compute gradients of weights."""
    modules = [module for layer in model.layers for module in torch_modules(layer)]
    return torch.nn.Sequential(*modules).eval().requires_grad_(False)


def torch_modules(layer: keras.Layer) -> list[torch.nn.Module]:
    if isinstance(layer, keras.layers.Flatten):
        return [FlattenChannelsLast()]
    if isinstance(layer, keras.layers.Dense):
        kernel, bias = layer.get_weights()
        return [with_weights(torch.nn.Linear(*kernel.shape), kernel.T, bias), activation(layer)]
    if isinstance(layer, keras.layers.Conv2D) and layer.padding == "valid" and layer.strides == (1, 1):
        kernel, bias = layer.get_weights()
        height, width, channels, filters = kernel.shape
        convolution = torch.nn.Conv2d(channels, filters, (height, width))
        return [with_weights(convolution, kernel.transpose(3, 2, 0, 1), bias), activation(layer)]
    if isinstance(layer, keras.layers.MaxPooling2D) and layer.padding == "valid" and layer.pool_size == layer.strides == (2, 2):
        return [torch.nn.MaxPool2d(2)]
    raise SystemExit(
        f"the layer {layer.name!r} ({type(layer).__name__}) cannot be converted to PyTorch. Add it to torch_modules."
    )


class FlattenChannelsLast(torch.nn.Module):
    """Flattens in the order of Keras: height, width, channels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.permute(0, 2, 3, 1).flatten(1)


def activation(layer: keras.Layer) -> torch.nn.Module:
    known = {"linear": torch.nn.Identity, "relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}
    name = layer.activation.__name__
    if name not in known:
        raise SystemExit(
            f"the activation {name!r} of {layer.name!r} cannot be converted to PyTorch. Known: {', '.join(known)}."
        )
    return known[name]()


def with_weights(module: torch.nn.Module, kernel: np.ndarray, bias: np.ndarray) -> torch.nn.Module:
    module.weight.data, module.bias.data = torch.tensor(kernel.copy()), torch.tensor(bias)
    return module


def check_logits(model: keras.Model, network: torch.nn.Module, images: np.ndarray) -> None:
    architecture, weights = split_weights(model, images.shape[1:])
    difference = architecture.apply(weights, tf.constant(images)).numpy() - network(to_channels_first(images)).numpy()
    if not np.max(np.abs(difference)) <= LOGITS_TOLERANCE:
        raise SystemExit(
            f"the logits of {model.name} in Keras and in PyTorch must agree to {LOGITS_TOLERANCE}; they differ by up to "
            f"{np.max(np.abs(difference)):.3g}. The comparison would be invalid. Correct convert_to_torch."
        )


def to_channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.tensor(images.transpose(0, 3, 1, 2).copy())


def root_mean_square(perturbations: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(perturbations.astype(np.float64).reshape(len(perturbations), -1) ** 2, axis=1))


def batch_gradient(model: keras.Model, problem: Problem) -> Callable[[], Any]:
    """Returns a function that evaluates the loss and its gradient on all images, compiled like the search."""
    architecture, weights = split_weights(model, problem.images.shape[1:])
    flat = tf.constant(problem.images.reshape(len(problem.images), -1))
    program = loss_program(architecture, problem.images.shape[1:])
    return lambda: program(weights, flat, problem.accepted)[0].numpy()


def loss_program(architecture: Architecture, image_shape: tuple[int, ...]) -> Any:
    """Compiles `(weights, flat pixels, accepted)` to the loss and its gradient."""

    # XLA computes convolutions on one thread, several times slower than TensorFlow.
    @tf.function(jit_compile=not architecture.convolves, autograph=False)
    def program(weights: list[tf.Tensor], flat: tf.Tensor, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def flat_logits(position: tf.Tensor) -> tf.Tensor:
            return architecture.apply(weights, tf.reshape(position, [-1, *image_shape]))

        return objective.loss_objective(flat_logits, accepted)(flat)

    return program


def gradient_seconds(gradient: Callable[[], Any]) -> float:
    gradient()  # the first call compiles
    return float(np.median([timed(gradient)[1] for _ in range(GRADIENT_CALLS)]))


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def show(outcomes: Mapping[str, Outcome]) -> None:
    """Prints the table. Distortions are compared with the best peer image by image, if all methods succeeded."""
    best = np.fmin.reduce([outcome.distortion for name, outcome in outcomes.items() if name in ATTACKS])
    shared = np.all([np.isfinite(outcome.distortion) for outcome in outcomes.values()], axis=0) & (best > 0)
    peers = [name for name in ("DDN 1000", "C&W 9x1000") if name in outcomes]
    titles = ["found", "mean", "/ best peer", "worst image", "seconds", *(f"/ {name}" for name in peers)]
    print(row("", *titles, "compiling", "evaluations", "/ gradients"))
    for name, outcome in outcomes.items():
        ratios = outcome.distortion[shared] / best[shared]
        print(
            row(
                name,
                f"{np.isfinite(outcome.distortion).mean():.1%}",
                number(mean(outcome.distortion[np.isfinite(outcome.distortion)]), ".5f"),
                number(mean(outcome.distortion[shared]) / mean(best[shared]), ".4f"),
                number(np.max(ratios, initial=-np.inf), ".3f"),
                number(outcome.seconds, ".2f"),
                *(number(outcome.seconds / outcomes[peer].seconds, ".3f") for peer in peers),
                number(outcome.compile_seconds, ".1f"),
                number(outcome.num_evaluations, ".0f"),
                number(outcome.overhead, ".2f"),
            )
        )
    print(
        f"Best peer: the nearest of the peers for each image; on the {shared.sum()} images that all found and that had to move."
    )


def row(name: str, *cells: str) -> str:
    return f"{name:18}" + "".join(f"{cell:>13}" for cell in cells)


def number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "-"


def mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def measure_throughput(model: keras.Model, problem: Problem) -> None:
    """Prints images per second of the quick search on the whole batch, and of SciPy on its first images one by one."""

    def attack() -> np.ndarray:
        return minimize_distortion(model, problem.images, search=QUICK_SEARCH, **problem.goal).distortion.numpy()

    attack()
    ours, seconds = timed(attack)
    few = problem.rows(0, SCIPY_IMAGES)
    searches = scipy_searches(model, few)
    theirs, scipy_seconds = timed(lambda: np.array([search() for search in searches]))
    rate, scipy_rate = len(ours) / seconds, len(few.images) / scipy_seconds
    print(f"\nThroughput: the quick search on {len(ours)} images at once, SciPy's L-BFGS-B on {len(few.images)} one by one")
    print(f"images per second: ours {rate:.1f}, SciPy {scipy_rate:.3f}, ratio {rate / scipy_rate:.0f}")
    means = [number(mean(found[np.isfinite(found)]), ".5f") for found in (ours[: len(few.images)], theirs)]
    print(f"mean distortion on those {len(few.images)}: ours {means[0]}, SciPy {means[1]}", flush=True)


def scipy_searches(model: keras.Model, problem: Problem) -> list[Callable[[], float]]:
    """Returns a function for each image that runs the search of the paper in float64, with the network compiled for one image."""
    image_shape = problem.images.shape[1:]
    double = in_float64(model, image_shape)

    @tf.function(jit_compile=not split_weights(model, image_shape)[0].convolves, autograph=False)
    def program(flat: tf.Tensor, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def flat_logits(position: tf.Tensor) -> tf.Tensor:
            return double(tf.reshape(position, [1, *image_shape]), training=False)

        logits = flat_logits(flat)
        return *objective.loss_objective(flat_logits, accepted)(flat), tf.gather(accepted[0], tf.argmax(logits[0]))

    def search_of(image: np.ndarray, accepted: tf.Tensor) -> Callable[[], float]:
        def evaluate(position: np.ndarray) -> tuple[float, np.ndarray, bool]:
            loss, gradient, succeeded = program(tf.constant(position[np.newaxis]), accepted)
            return float(loss[0]), gradient[0].numpy(), bool(succeeded)

        evaluate(image)  # compiles before the time is measured
        return lambda: search_by_scipy(evaluate, image)

    flat = problem.images.astype(np.float64).reshape(len(problem.images), -1)
    return [search_of(image, problem.accepted[index : index + 1]) for index, image in enumerate(flat)]


def in_float64(model: keras.Model, image_shape: tuple[int, ...]) -> keras.Model:
    """Copies a sequential network in float64. Keras would round the inputs of float32 layers."""
    layers = [type(layer).from_config({**layer.get_config(), "dtype": "float64"}) for layer in model.layers]
    double = keras.Sequential([keras.Input(image_shape, dtype="float64"), *layers])
    double.set_weights(model.get_weights())
    return double


def search_by_scipy(evaluate: Callable[[np.ndarray], tuple[float, np.ndarray, bool]], clean: np.ndarray) -> float:
    """Returns the distortion at the largest successful c, which is bracketed by factors of 2 and bisected. NaN without success."""
    if evaluate(clean)[2]:
        return 0.0
    nearest, succeeded_at, failed_at, c = None, 0.0, np.inf, 1.0
    while failed_at > BRACKET_RATIO * succeeded_at and C_RANGE[0] < c < C_RANGE[1]:
        position = minimize_by_scipy(evaluate, clean, clean if nearest is None else nearest, c)
        if evaluate(position)[2]:
            succeeded_at = c
            nearest = min((p for p in (nearest, position) if p is not None), key=lambda p: float(np.sum((p - clean) ** 2)))
        else:
            failed_at = c
        bracketed = succeeded_at > 0.0 and np.isfinite(failed_at)
        c = np.sqrt(succeeded_at * failed_at) if bracketed else 2.0 * c if succeeded_at > 0.0 else c / 2.0
    return np.nan if nearest is None else float(root_mean_square((nearest - clean)[np.newaxis])[0])


def minimize_by_scipy(evaluate: Callable[..., Any], clean: np.ndarray, start: np.ndarray, c: float) -> np.ndarray:
    def penalty(position: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient, _ = evaluate(position)
        perturbation = position - clean
        return c * float(perturbation @ perturbation) + loss, 2.0 * c * perturbation + gradient

    found = scipy.optimize.minimize(penalty, start, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(clean))
    return np.clip(found.x, 0.0, 1.0)


def measure_constancy(model: keras.Model, problem: Problem) -> None:
    """Prints the growth of memory and of traces in a hundred calls on new images."""
    architecture, _ = split_weights(model, problem.images.shape[1:])
    program = compiled_search(architecture, QUICK_SEARCH, problem.targeted, architecture.jit_compile)

    def attack(number: int) -> None:
        few = problem.rows(number * CONSTANCY_IMAGES, (number + 1) * CONSTANCY_IMAGES)
        minimize_distortion(model, few.images, search=QUICK_SEARCH, **few.goal).distortion.numpy()

    attack(0)
    traces = program.experimental_get_tracing_count()
    for index in range(1, CONSTANCY_WARM_UPS):
        attack(index)
    before = resident_bytes()
    for index in range(CONSTANCY_WARM_UPS, CONSTANCY_WARM_UPS + CONSTANCY_CALLS):
        attack(index)
    grown, retraced = resident_bytes() - before, program.experimental_get_tracing_count() - traces
    print(f"\nConstancy: the quick search, {CONSTANCY_CALLS} calls on {CONSTANCY_IMAGES} images each")
    print(f"resident memory grew by {grown / 2**20:.1f} MiB; new traces after the first call: {retraced}", flush=True)


def resident_bytes() -> int:
    """Returns the current memory of the process. getrusage reports only the maximum."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    app.run(main)
