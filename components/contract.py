"""The steps of a pipeline, in TFX's words: a component declares inputs, outputs and parameters, and an executor does the work.

A finished step is reused if nothing that it depends on has changed: its parameters, the content of its inputs, the versions of
the numeric libraries, and the source code of its module and of all first-party modules that it imports, transitively.
"""

from __future__ import annotations

import abc
import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from components.artifacts import MANIFEST, Artifact, sha256_of
from components.source_files import source_files

Output = TypeVar("Output", bound=Artifact)

Progress = Callable[[int, int, str], None]
"""Called as `progress(done, total, remark)` while a step works."""

Artifacts = Mapping[str, Sequence[Any]]
"""From the name of an input or output to its artifacts, whose types the component declares."""

Parameters = Mapping[str, Any]

_REPOSITORY = Path(__file__).resolve().parent.parent
_VERSIONED = ("tensorflow", "keras", "tensorflow-probability", "tensorflow-datasets", "numpy")


class Executor(abc.ABC):
    """Does the work of a step: reads artifacts, computes, writes artifacts."""

    def __init__(self, progress: Progress, tmp_dir: Path):
        """Stores what a step may use while it works.

        Args:
            progress: The callable to which long work reports.
            tmp_dir: Folder for files with which an interrupted step continues. The executor creates it when it first writes
                there; it is deleted when the step is published. All workers share it, and the chief alone writes.
        """
        self.progress, self.tmp_dir = progress, tmp_dir

    @abc.abstractmethod
    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Fills the folders of `output_dict` from those of `input_dict` and the parameters."""


class Component(Generic[Output]):
    """Declares a step and binds it to its inputs and parameters; a subclass only fills in the declarations.

    Attributes:
        id: Names the step and its folder.
        output: The artifact that the step makes.
        tmp_dir: What interrupted runs of it left to go on from, in a folder for each fingerprint.
    """

    PARAMETERS: ClassVar[Mapping[str, type]] = {}
    DEFAULTS: ClassVar[Mapping[str, Any]] = {}  # of parameters that may be left out
    INPUTS: ClassVar[Mapping[str, type[Artifact]]] = {}
    OUTPUTS: ClassVar[Mapping[str, type[Artifact]]] = {}
    EXECUTOR: ClassVar[type[Executor]]
    ON_EVERY_WORKER: ClassVar[bool] = True  # False: the replicas share no work, so the chief alone does it

    def __init__(self, id: str, workdir: str | Path, **bindings: Any):
        """Checks the bindings against the declarations.

        Args:
            id: Name of the step, and of its folder in `workdir`.
            workdir: Where the pipeline keeps its folders.
            **bindings: For each input an artifact, a component or a list of them; for each parameter its value.

        Raises:
            TypeError: If a binding is missing, unknown or of another type.
        """
        self.id = id
        self.workdir = Path(workdir)
        bindings = {**self.DEFAULTS, **bindings}
        _check_keys(id, set(bindings), {*self.INPUTS, *self.PARAMETERS})
        self.inputs = {name: _artifacts(id, name, bindings[name], kind) for name, kind in self.INPUTS.items()}
        self.parameters = {name: bindings[name] for name in self.PARAMETERS}
        for name, kind in self.PARAMETERS.items():
            if not isinstance(self.parameters[name], kind):
                raise TypeError(f"{id}: parameter {name} must be {kind.__name__}; received {self.parameters[name]!r}.")
        self.tmp_dir = self.workdir / f".{id}.tmp"
        ((self._output_name, output_type),) = self.OUTPUTS.items()
        self.output: Output = output_type(self.workdir / id)  # type: ignore[assignment]  # the two declarations agree

    def fingerprint(self) -> str:
        """Hashes everything that the result depends on."""
        inputs = {name: [artifact.digest() for artifact in artifacts] for name, artifacts in self.inputs.items()}
        facts = [type(self).__name__, self.parameters, inputs, versions(), _code_digest(type(self))]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def is_finished(self) -> bool:
        """True if the folder holds the result of just this step; an altered one raises `CorruptArtifactError`."""
        return (self.output.uri / MANIFEST).is_file() and self.output.manifest()["fingerprint"] == self.fingerprint()

    def differences(self, manifest: Mapping[str, Any]) -> str:
        """Returns in words what was different when a manifest was written."""
        before, now = dict(_leaves(manifest["parameters"])), dict(_leaves(self.parameters))
        differences = [
            f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
            for name in dict.fromkeys([*before, *now])
            if before.get(name) != now.get(name)
        ]
        if manifest["inputs"] != self._input_digests():
            differences.append("its inputs have changed")
        return ", ".join(differences) or "this code or the version of a library has changed"

    def execute(self, folder: Path, progress: Progress) -> None:
        """Does the work into `folder` and seals it with a manifest."""
        began, fingerprint, inputs = time.monotonic(), self.fingerprint(), self._input_digests()
        output = type(self.output)(folder)
        self.EXECUTOR(progress, self.tmp_dir / fingerprint[:16]).Do(self.inputs, {self._output_name: [output]}, self.parameters)
        if self._input_digests() != inputs:
            raise RuntimeError(
                f"the inputs of {self.id} changed while it was working, as when another run in {self.workdir} replaces them. "
                "Run it again, or pass another --workdir to one of the two."
            )
        manifest = {
            "type": output.TYPE_NAME,
            "step": self.id,
            "fingerprint": fingerprint,
            "inputs": inputs,
            "parameters": self.parameters,
            "versions": versions(),
            "machine": f"{platform.machine()} {platform.system()}, Python {platform.python_version()}",
            "seconds": round(time.monotonic() - began, 3),
            "files": {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")

    def _input_digests(self) -> dict[str, dict[str, str]]:
        return {name: {item.uri.name: item.digest() for item in items} for name, items in self.inputs.items()}


def _leaves(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of nested settings, named as `training.num_epochs`, tuples as the lists that JSON makes of them."""
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.loads(json.dumps(value))


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that the numbers depend on."""
    return {name: metadata.version(name) for name in _VERSIONED}


def _code_digest(component: type[Component]) -> str:
    digest = hashlib.sha256()
    for path in sorted(source_files(component.__module__, _REPOSITORY)):
        digest.update(f"{path.relative_to(_REPOSITORY)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _check_keys(id: str, received: set[str], expected: set[str]) -> None:
    if received != expected:
        raise TypeError(f"{id}: expected the inputs and parameters {sorted(expected)}; received {sorted(received)}.")


def _artifacts(id: str, name: str, bound: Any, kind: type[Artifact]) -> list[Artifact]:
    artifacts = [
        item.output if isinstance(item, Component) else item for item in (bound if isinstance(bound, list) else [bound])
    ]
    for artifact in artifacts:
        if not isinstance(artifact, kind):
            raise TypeError(f"{id}: input {name} must be a {kind.TYPE_NAME}; received {artifact!r}.")
    return artifacts
