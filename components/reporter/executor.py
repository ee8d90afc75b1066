"""The work of Reporter."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from components.artifacts import ReportSection
from components.contract import Artifacts, Executor, Parameters, versions
from components.records import SectionRecord
from intriguing.reporting import RenderedSection, render_page, write_whole


class ReporterExecutor(Executor):
    """Collects the files of the sections, and puts their text under one title."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes a `Report`."""
        output, records = output_dict["report"][0], [section.record() for section in input_dict["sections"]]
        page = render_page(
            title=exec_properties["title"],
            lead=" ".join(record.lead for record in records if record.lead),
            sections=[RenderedSection(*fragment) for record in records for fragment in record.fragments],
            facts={**exec_properties["facts"], **versions(), **_seconds(records)},
        )
        for folder in ("tables", "figures"):
            _collect(input_dict["sections"], output.uri / folder)
        write_whole(output.uri / "index.html", page)


def _collect(sections: Sequence[ReportSection], folder: Path) -> None:
    """Copies the files of all sections into one folder."""
    folder.mkdir()
    for section in sections:
        for path in sorted((section.uri / folder.name).iterdir()):
            if (folder / path.name).exists():
                raise ValueError(
                    f"two sections have a file {folder.name}/{path.name}. Give their tables and figures other names."
                )
            shutil.copyfile(path, folder / path.name)


def _seconds(records: Sequence[SectionRecord]) -> dict[str, str]:
    times = {f"Step {step}": f"{seconds:.1f} s" for record in records for step, seconds in record.seconds.items()}
    return {"Machine": records[0].machine, **times}
