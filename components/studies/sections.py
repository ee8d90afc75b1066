"""The step that makes one section of a report."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from components.artifacts import ReportSection
from components.contract import Artifacts, Component, Executor, Parameters
from components.records import SectionRecord
from intriguing.reporting import Section, Table, render_section, to_text, write_table, write_whole

Figures = Mapping[str, tuple[bytes, str]]
"""From the name of a file to its PNG and its caption."""


class SectionContent(NamedTuple):
    """What a part reports."""

    sections: Sequence[Section]  # its headings
    figures: Figures  # written as files; the sections show them
    lead: str = ""  # the finding in a sentence or two
    more_tables: Sequence[Table] = ()  # written as files, not shown

    @property
    def shown(self) -> list[Table]:
        """The tables of the page, in its order."""
        return [table for section in self.sections for table in section.tables]


class SectionExecutor(Executor):
    """Turns artifacts into tables, figures and text. A subclass computes the content."""

    @abc.abstractmethod
    def content(self, input_dict: Artifacts, exec_properties: Parameters) -> SectionContent:
        """Returns what the section shows."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes a `ReportSection`."""
        write_section(output_dict["section"][0], self.content(input_dict, exec_properties), input_dict)


class SectionStep(Component[ReportSection]):
    """Makes a section of the report; a subclass declares its inputs, parameters and executor."""

    OUTPUTS = {"section": ReportSection}
    ON_EVERY_WORKER = False


def write_section(output: ReportSection, content: SectionContent, inputs: Artifacts) -> None:
    """Writes a section as files.

    Args:
        output: The folder.
        content: What the section shows.
        inputs: The artifacts that it was made of.
    """
    for folder in ("tables", "figures"):
        (output.uri / folder).mkdir()
    for table in [*content.shown, *content.more_tables]:
        write_table(table, output.uri / "tables")
        write_whole(output.uri / "tables" / f"{table.name}.txt", to_text(table))
    for name, (png, _) in content.figures.items():
        write_whole(output.uri / "figures" / f"{name}.png", png)
    manifests = [artifact.manifest() for artifacts in inputs.values() for artifact in artifacts]
    output.write_record(
        SectionRecord(
            lead=content.lead,
            fragments=tuple(render_section(section) for section in content.sections),
            printed=tuple(table.name for table in content.shown),
            seconds={manifest["step"]: manifest["seconds"] for manifest in manifests},
            machine=manifests[0]["machine"],
        )
    )
