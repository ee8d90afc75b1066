"""Reporter: the sections of a study as one page."""

from __future__ import annotations

from components.artifacts import Report, ReportSection
from components.contract import Component
from components.reporter.executor import ReporterExecutor


class Reporter(Component[Report]):
    """Parameters: the title, and the facts of the recipe that the page repeats. Inputs: the sections, in their order."""

    PARAMETERS = {"title": str, "facts": dict}
    INPUTS = {"sections": ReportSection}
    OUTPUTS = {"report": Report}
    EXECUTOR = ReporterExecutor
    ON_EVERY_WORKER = False
