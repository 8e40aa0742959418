"""`attnpool doctor`: what is installed, what it runs on, and what is broken."""

import json as json_files
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from itertools import islice
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table

from attnpool.jobs._write import write_whole

US = "attnpool"


@dataclass(frozen=True)
class Library:
    """Something that attnpool needs.

    Args:
        name: Of the distribution.
        version: The one installed; "" if it is not.
        wanted: The rule for versions, e.g. ">=2.11".
        problem: What is wrong with it; "" if nothing is.
    """

    name: str
    version: str
    wanted: str
    problem: str


@dataclass(frozen=True)
class Extra:
    """Libraries that some commands need.

    Args:
        name: As in pip install 'attnpool[NAME]'.
        missing: What of it is not installed, or in another version than the rule says.
        install: The line that installs it; "" if nothing is missing.
        here: Whether it exists for this system and Python.
    """

    name: str
    missing: tuple[str, ...]
    install: str
    here: bool


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found.

    Args:
        attnpool: Its version.
        python: The version of Python, and system: the operating system and processor.
        libraries: All that attnpool needs.
        extras: What some commands need besides.
        devices: That networks can run on.
        cpus: Cores of the machine, and threads: those that torch uses; 0 if torch cannot be asked.
        memory: Bytes of the machine's memory; None if it does not say.
        problems: What is broken, a line each; an extra that is not installed is no problem.
    """

    attnpool: str
    python: str
    system: str
    libraries: tuple[Library, ...]
    extras: tuple[Extra, ...]
    devices: tuple[str, ...]
    cpus: int
    threads: int
    memory: int | None
    problems: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 if something that is needed is broken."""
        return int(bool(self.problems))

    def __rich__(self) -> Group:
        facts = Table("", Column(overflow="fold"), title=f"attnpool {self.attnpool}", show_header=False)
        facts.add_row("Python", f"{self.python}, {escape(self.system)}")
        facts.add_row("devices", escape("; ".join(self.devices)) or "-")
        facts.add_row("CPU", f"{self.cpus} cores, {self.threads} of them used by torch")
        facts.add_row("memory", "-" if self.memory is None else f"{self.memory / 1e9:.1f} GB", end_section=True)
        for library in self.libraries:
            said = f"needs {library.wanted or 'any version'}: {library.problem}" if library.problem else ""
            facts.add_row(library.name, escape(f"{library.version or '-'}  {said}".strip()))
        facts.add_section()
        for extra in self.extras:
            state = escape(extra.install) if extra.here else "not for this system or Python"
            facts.add_row(f"extra {extra.name}", state or "installed")
        ill = [f"[bold]broken:[/bold] {escape(problem)}" for problem in self.problems]
        return Group(facts, *(ill or ["All that attnpool needs works."]))


def doctor(*, json: str | None = None) -> Diagnosis:
    """Check this installation: versions, devices and optional parts; exit code 1 if something needed is broken.

    Nothing is only looked up that can be tried: an operator of torchvision runs beside torch, and a small network runs.

    Args:
        json: File for all of it, e.g. for a report of a bug.

    Raises:
        ValueError: if the file cannot be written.
    """
    if json is not None and not Path(json).absolute().parent.is_dir():
        raise ValueError(f"json has to be a file in a folder that exists, but got {json!r}")
    libraries = tuple(Library(r.name, _version(r.name), str(r.specifier), _fault(r)) for r in _needed())
    problems = [f"{library.name}: {library.problem}" for library in libraries if library.problem]
    problems += islice(filter(None, (_trial(name, attempt) for name, attempt in TRIALS.items())), 1)
    devices, threads = _devices()
    diagnosis = Diagnosis(
        attnpool=version(US),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        libraries=libraries,
        extras=tuple(map(_extra, metadata(US).get_all("Provides-Extra") or ())),
        devices=devices,
        cpus=os.cpu_count() or 0,
        threads=threads,
        memory=_memory(),
        problems=tuple(problems),
    )
    if json is not None:
        write_whole(Path(json), json_files.dumps(asdict(diagnosis), indent=2) + "\n")
    return diagnosis


def _needed(extra: str = "") -> Iterator[Requirement]:
    """What the installed attnpool says that it needs here, or that an extra does."""
    for line in requires(US) or ():
        requirement = Requirement(line)
        is_of_extra = requirement.marker is not None and "extra" in str(requirement.marker)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if applies and is_of_extra == bool(extra):
            yield requirement


def _fault(requirement: Requirement) -> str:
    """Why what is installed is not what is needed; "" if it is."""
    found = _version(requirement.name)
    if not found:
        return "it is not installed"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"it has to be {requirement.specifier}, but is {found}"
    return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _extra(name: str) -> Extra:
    parts = list(_needed(name))
    missing = tuple(str(part.name) for part in parts if _fault(part))
    return Extra(name, missing, f"pip install '{US}[{name}]'" if missing else "", bool(parts))


def _trial(name: str, attempt: Callable[[], object]) -> str:
    """What came of an attempt, in a line; "" if it went well."""
    try:
        attempt()
    except Exception as error:
        return f"{name}: {' '.join(str(error).split()) or type(error).__name__}"
    return ""


def _suppress() -> None:
    """Run an operator that torchvision has in C++, and compare.

    Raises:
        ImportError: if torch and torchvision are not of the same build.
    """
    import torch

    try:
        from torchvision.ops import nms

        boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.5], [8.0, 8.0, 9.0, 9.0]])
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    except (RuntimeError, ImportError, OSError, AttributeError, NotImplementedError) as error:
        raise ImportError(
            f"torch {_version('torch') or '(none)'} and torchvision {_version('torchvision') or '(none)'} do not fit "
            f"each other{_partner()}: {error}. Install both anew from one place, for one device, e.g. pip install "
            "--force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cpu"
        ) from error
    if kept != [0, 2]:
        raise RuntimeError(f"nms has to keep boxes 0 and 2 of three, but keeps {kept}")


def _partner() -> str:
    """Which torch the installed torchvision is for, if it is not the one installed."""
    lines = requires("torchvision") if _version("torchvision") else None
    wanted = next((r for r in map(Requirement, lines or ()) if r.name == "torch"), None)
    return f" (this torchvision is for torch {wanted.specifier})" if wanted and _fault(wanted) else ""


def _run_network() -> None:
    """Run a small network.

    Raises:
        RuntimeError: if its outputs are not finite.
    """
    import torch

    from attnpool.models.build import create_model

    with torch.random.fork_rng(devices=()):
        model = create_model("resnet18-nlp_headfix2-1222", num_classes=2, width=0.125).eval()
    with torch.inference_mode():
        logits = model(torch.zeros(1, 3, 32, 32))
    if not bool(logits.isfinite().all()):
        raise RuntimeError("the outputs of a small network have to be finite, but are not")


TRIALS: dict[str, Callable[[], object]] = {
    "torch": partial(import_module, "torch"),
    "torchvision": _suppress,
    "timm": partial(import_module, "timm"),
    "pytorch-lightning": partial(import_module, "pytorch_lightning"),
    "attnpool": _run_network,
}
"""What is really tried: each stands on those before it, so that the first to fail is the cause."""


def _devices() -> tuple[tuple[str, ...], int]:
    """The devices, and the threads of torch; none if it is not to be had."""
    try:
        import torch

        cards: Sequence[int] = range(torch.cuda.device_count())
        found = [torch.cuda.get_device_properties(card) for card in cards]
        named = [f"cuda:{i} {card.name}, {card.total_memory / 1e9:.1f} GB" for i, card in enumerate(found)]
        mps = ["mps"] if torch.backends.mps.is_available() else []
        return ("cpu", *named, *mps), torch.get_num_threads()
    except Exception:  # the trials say what is wrong
        return (), 0


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # e.g. on Windows
        return None
