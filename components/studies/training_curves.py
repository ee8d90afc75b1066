"""The training losses of all networks of a study."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from components.artifacts import TrainedModel
from components.contract import Artifacts, Parameters
from components.studies.plan import Plan
from components.studies.sections import SectionContent, SectionExecutor, SectionStep
from components.studies.study import Part
from intriguing.reporting import Section, to_png, training_curves


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingCurves(Part):
    """Draws the training losses of the networks of all parts before it."""

    def add_to(self, plan: Plan) -> SectionStep:
        """Adds the section alone.

        Raises:
            ValueError: If no part before it trains a network.
        """
        if not plan.trained:
            raise ValueError("no part before TrainingCurves() trains a network. List it after the others, or leave it out.")
        return plan.add(CurveSection, "section_training", models=plan.trained)

    def facts(self) -> Mapping[str, str]:
        """Returns nothing: it has no settings."""
        return {}


class CurveSectionExecutor(SectionExecutor):
    """Draws a curve for each network."""

    def content(self, input_dict: Artifacts, exec_properties: Parameters) -> SectionContent:
        """Returns what the section shows."""
        curves = training_curves(losses(input_dict["models"]), title="Training loss", step="report (epoch, or 50 iterations)")
        figure = (to_png(curves), "Training loss of every network; of several seeds, the first.")
        return SectionContent([Section(title="Training", figures=(figure,))], {"training": figure})


class CurveSection(SectionStep):
    """Inputs: the networks. Takes no parameters."""

    INPUTS = {"models": TrainedModel}
    EXECUTOR = CurveSectionExecutor


def losses(models: Sequence[TrainedModel]) -> dict[str, Sequence[float]]:
    """Returns the losses of each network, the first seed of each; networks of one name are named with theirir subset."""
    firsts: dict[tuple[str, str], Sequence[float]] = {}
    for record in (model.record() for model in models):
        firsts.setdefault((record.name, record.subset), record.losses)
    num_subsets = Counter(name for name, _ in firsts)
    return {name if num_subsets[name] == 1 else f"{name}, {subset}": values for (name, subset), values in firsts.items()}
