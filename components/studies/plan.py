"""The plan of a study: its steps, each made once, in an order in which they can run."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from components.contract import Component
from components.example_gen.component import ExampleGen
from components.folder_names import folder_name
from components.studies.data_sources import DataSource, Locations

Step = TypeVar("Step", bound=Component)


@dataclasses.dataclass(frozen=True)
class Split:
    """A subset of the images of a study.

    Attributes:
        expression: As TFDS writes a split, such as "train[:50%]".
        disjoint_from: Expressions of subsets that must share no image with it.
        name: Part of the step's name; by default the expression.
    """

    expression: str
    disjoint_from: tuple[str, ...] = ()
    name: str = ""


TRAIN = Split("train")
TEST = Split("test", disjoint_from=("train",))


class Plan:
    """Collects the steps of a study. Parts that need the same step share it.

    Attributes:
        data: The images of the study.
        locations: Where this machine keeps them.
        workdir: Folder of all steps.
        seed: Of weights, order, samples, targets and noise.
        trained: The steps that train a network, in their order.
    """

    def __init__(self, data: DataSource, *, locations: Locations, workdir: Path, seed: int):
        """Makes a plan without steps."""
        self.data, self.locations, self.workdir, self.seed = data, locations, workdir, seed
        self.trained: list[Component] = []
        self._steps: dict[str, Component] = {}

    @property
    def steps(self) -> list[Component]:
        """The steps, in an order in which they can run."""
        return list(self._steps.values())

    def with_seed(self, seed: int) -> Plan:
        """Returns a plan that adds to the same steps with another seed."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def add(self, kind: type[Step], id: str, **bindings: Any) -> Step:
        """Adds a step, or returns the same one that another part has added.

        Args:
            kind: The component.
            id: Name of the step.
            **bindings: Its inputs and parameters.

        Raises:
            ValueError: If another step has this name.
        """
        step = kind(id, self.workdir, **bindings)
        known = self._steps.setdefault(id, step)
        if _declared(known) != _declared(step):
            raise ValueError(
                f"the study has two steps {id!r} with different settings. Give one of the networks another `name`, or both "
                "parts the same settings."
            )
        return known  # type: ignore[return-value]  # its type is that of `step`

    def subset(self, split: Split) -> ExampleGen:
        """Adds a subset of the images."""
        return self.add(
            ExampleGen, f"subset_{folder_name(split.name or split.expression)}", subset=split.expression,
            disjoint_from=list(split.disjoint_from), **self.data.bindings(self.locations),
        )  # fmt: skip


def _declared(step: Component) -> tuple[Any, ...]:
    inputs = {name: [artifact.uri for artifact in artifacts] for name, artifacts in step.inputs.items()}
    return type(step), step.parameters, inputs
