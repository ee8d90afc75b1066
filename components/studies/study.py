"""A study: a title, images, and parts, each of which adds steps to the plan and a section to the report."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from components.contract import Component
from components.reporter.component import Reporter
from components.studies.data_sources import DataSource, Locations
from components.studies.plan import Plan
from components.studies.sections import SectionStep


class Part(abc.ABC):
    """A part of a study. A subclass is a frozen dataclass of its settings, in a file with its section."""

    @abc.abstractmethod
    def add_to(self, plan: Plan) -> SectionStep:
        """Adds the steps of the part to a plan.

        Args:
            plan: The steps of the parts before this one. A step that another part has added is shared.

        Returns:
            The last of its steps, which makes the section of the report.
        """

    @abc.abstractmethod
    def facts(self) -> Mapping[str, str]:
        """Returns the settings that the report repeats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A recipe: everything that determines the numbers of a report, apart from the seed and the machine.

    Attributes:
        title: Headline of the page.
        data: The images.
        parts: What is measured, in the order of the page.
    """

    title: str
    data: DataSource
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple) or not all(isinstance(part, Part) for part in self.parts):
            raise TypeError(f"parts must be a tuple of parts, such as (TrainingCurves(),); received {self.parts!r}.")
        if not hasattr(self.data, "bindings"):
            raise TypeError(f"data must be Dataset('mnist') or an ImageFolder; received {self.data!r}.")
        kinds = [type(part).__name__ for part in self.parts]
        if not kinds or len(set(kinds)) < len(kinds):
            raise ValueError(
                f"a study must have at least one part, and each kind of part once; received {kinds}. Give all networks of one "
                "kind to one part."
            )

    def steps(
        self, *, workdir: Path, seed: int, facts: Mapping[str, str], locations: Locations = Locations()
    ) -> list[Component]:
        """Plans the study.

        Args:
            workdir: Folder of all steps.
            seed: Of weights, order, samples, targets and noise.
            facts: Facts of the run that the report lists before the settings of the parts.
            locations: Where this machine keeps images and weights.

        Returns:
            The steps, in an order in which they can run; the last one writes the report.

        Raises:
            ValueError: If two parts contradict each other, or a folder or file was not named.
            FileNotFoundError: If a file or folder does not exist.
        """
        plan = Plan(self.data, locations=locations, workdir=workdir, seed=seed)
        sections = [_section(part, plan) for part in self.parts]
        plan.add(Reporter, "report", title=self.title, facts={**facts, **self._facts(locations)}, sections=sections)
        return plan.steps

    def _facts(self, locations: Locations) -> dict[str, str]:
        facts = {**self.data.facts(), **locations.facts()}
        for part in self.parts:
            for name, fact in part.facts().items():
                # Parts with different settings list each of them.
                facts[name if facts.get(name, fact) == fact else f"{name}, {type(part).__name__}"] = fact
        return facts


def _section(part: Part, plan: Plan) -> SectionStep:
    step = part.add_to(plan)
    if not isinstance(step, SectionStep):
        raise TypeError(f"{type(part).__name__}.add_to must return the step of its section; received {step!r}.")
    return step
