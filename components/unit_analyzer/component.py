"""UnitAnalyzer: the natural basis of some layers of one network, tested against random bases on one subset."""

from __future__ import annotations

from components.artifacts import Subset, TrainedModel, UnitAnalyses
from components.contract import Component
from components.unit_analyzer.executor import UnitAnalyzerExecutor


class UnitAnalyzer(Component[UnitAnalyses]):
    """Parameters: layers and how they are read, settings of the comparison, controls, table of attributes or kinds."""

    PARAMETERS = {"layers": list, "settings": dict, "controls": list, "attributes": dict}
    INPUTS = {"model": TrainedModel, "subset": Subset}
    OUTPUTS = {"analyses": UnitAnalyses}
    EXECUTOR = UnitAnalyzerExecutor
