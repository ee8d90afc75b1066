"""Steps that add numbers, for tests of pipelines without networks. A hook makes a step fail while it writes a file."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.artifacts import Artifact, TrainedModel
from components.contract import Component, Executor
from components.records import NetworkRecord
from components.runner import run
from intriguing.attack import COARSE_SEARCH
from intriguing.statistics.proportions import Proportion
from intriguing.training import AdversarialTraining, LayerPool, MinibatchTraining

TINY_POOLS = AdversarialTraining(
    minibatches=MinibatchTraining(num_epochs=5, batch_size=50, learning_rate=1e-2),
    pools=(LayerPool(size=16, replaced=0.5),),
    rounds_per_epoch=1,
    search=COARSE_SEARCH,
    attack_batch_size=8,
)
"""Settings for a linear network, whose attack compiles fastest."""

executed: list[str] = []
"""The output folders of the executors that ran, in order."""

found_again: list[str] = []
"""Contents of the temporary files that resumed executors read."""


class Number(Artifact):
    """number.json: a number."""

    TYPE_NAME = "Number"


class Word(Artifact):
    """word.json: a word."""

    TYPE_NAME = "Word"


class AdditionExecutor(Executor):
    """Adds the parameter to its inputs."""

    fault: Callable[[], None] = staticmethod(lambda: None)  # called when the file is half written

    def Do(self, input_dict, output_dict, exec_properties):
        output = output_dict["number"][0]
        executed.append(output.uri.name)
        if exec_properties.get("keeps"):
            found_again.extend(path.read_text() for path in self.tmp_dir.glob("kept.txt"))
            self.tmp_dir.mkdir(parents=True, exist_ok=True)
            (self.tmp_dir / "kept.txt").write_text(exec_properties["keeps"])
        output.write_json("half.json", 0)
        self.fault()
        addends = [number.read_json("number.json") for number in input_dict.get("numbers", [])]
        self.progress(1, 1, "added")
        output.write_json("number.json", sum(addends) + exec_properties["plus"])


class Constant(Component):
    PARAMETERS = {"plus": int}
    OUTPUTS = {"number": Number}
    EXECUTOR = AdditionExecutor


class LongWork(Component):
    """Writes a temporary file, which it reads if it was interrupted."""

    PARAMETERS = {"plus": int, "keeps": str}
    OUTPUTS = {"number": Number}
    EXECUTOR = AdditionExecutor


class Sum(Component):
    PARAMETERS = {"plus": int}
    INPUTS = {"numbers": Number}
    OUTPUTS = {"number": Number}
    EXECUTOR = AdditionExecutor


def two_steps(workdir: Path, *, plus: int = 2) -> list[Component]:
    """Returns the steps `one` and `sum`, where `sum` reads `one`. Their numbers are 1 and 1 + plus."""
    one = Constant("one", workdir, plus=1)
    return [one, Sum("sum", workdir, numbers=one, plus=plus)]


def run_and_kill_in_the_second_step(workdir: str) -> None:
    """Runs `two_steps` in a process that is killed when the file of the second step is half written."""

    def kill() -> None:
        if len(executed) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    AdditionExecutor.fault = staticmethod(kill)
    run(two_steps(Path(workdir)))


class GivenModelExecutor(Executor):
    """Saves a given network as a trained model."""

    model: Any = None

    def Do(self, input_dict, output_dict, exec_properties):
        output = output_dict["model"][0]
        self.model.save(output.uri / "model.keras")
        name = exec_properties["name"]
        output.write_record(
            NetworkRecord(
                name=name,
                model=name,
                dataset="mnist_5k",
                subset="train",
                seed=0,
                losses=(1.0, 0.5),
                converged=True,
                train_errors=Proportion(0, 1),
            )
        )


class GivenModel(Component):
    PARAMETERS = {"name": str}
    OUTPUTS = {"model": TrainedModel}
    EXECUTOR = GivenModelExecutor


def trained_model(folder: Path, model: Any, *, name: str) -> TrainedModel:
    """Writes a network as an artifact, without training it."""
    GivenModelExecutor.model = model
    run([GivenModel(folder.name, folder.parent, name=name)])
    return TrainedModel(folder)
