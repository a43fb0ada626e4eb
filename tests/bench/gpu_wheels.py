"""`make gpu-wheels`: what `make bench-gpu` and `make test-gpu` need, what of it is here, and how to bring it to a machine without a network.

Downloads nothing. Weights are random and data is made, so packages are all that is needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """A package, what lacks without it, and how it is written for pip where constraints.txt does not name its version."""

    name: str
    without: str
    wanted: str = ""


WHEELS = (
    Wheel("torch", "nothing runs; take the CUDA build of the machine's driver"),
    Wheel("transformers", "nothing runs"),
    Wheel("deepspeed", "no training; set DS_BUILD_OPS=0 to install it"),
    Wheel("accelerate", "rows G1, G1f, G4: no Trainer to race"),
    Wheel("trl", "row G4: no TRL to race"),
    Wheel(
        "flash-attn",
        "row G1f, FlashAttention in G1 and G4, its tests; built against the torch above (--no-build-isolation)",
        "flash-attn>=2.8",
    ),
    Wheel("liger-kernel", "Liger's kernels, for ours and for Trainer; its test", "liger-kernel>=0.8"),
    Wheel("vllm", "row engines.gpu.prefix_caching and vLLM's tests", "vllm==0.32.0"),
    Wheel("pytest", "make test-gpu"),
    Wheel("pytest-timeout", "make test-gpu"),
)


def pins(constraints: Path) -> dict[str, str]:
    """Exact versions by name."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", constraints.read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): wanted for name, wanted in found}


def here(name: str) -> str:
    """The version that is installed; empty for none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def table(constraints: Path) -> list[str]:
    """A line a package, then the commands."""
    pinned = pins(constraints)
    lines = [f"{'package':<24}{'here':<16}without it"]
    wanted = []
    for wheel in WHEELS:
        pin = wheel.wanted or (f"{wheel.name}=={pinned[wheel.name]}" if wheel.name in pinned else wheel.name)
        wanted.append(f"'{pin}'")
        lines.append(f"{pin:<24}{here(wheel.name) or 'missing':<16}{wheel.without}")
    return [
        *lines,
        "",
        "On a machine with a network and the same Python, then the folder and this checkout to the machine with the GPU:",
        f"  pip download -d wheels -c constraints.txt {' '.join(wanted)} '.[test,bench]' setuptools wheel",
        "There, with nothing to download:",
        "  make bench-gpu WHEELS=wheels    # ten minutes at most, build/bench-gpu.json",
        "  make test-gpu WHEELS=wheels",
        "They leave out flash-attn, liger-kernel and vllm:",
        "  .venv/bin/python -m pip install --no-index --find-links wheels flash-attn liger-kernel vllm",
    ]


if __name__ == "__main__":
    print("\n".join(table(Path(__file__).parents[2] / "constraints.txt")))
