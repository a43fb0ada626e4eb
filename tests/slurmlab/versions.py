"""Another version of SLURM than this machine's: `python -m tests.slurmlab.versions 24.11 -- COMMAND`.

SLURM's commands, daemons and plugins belong to one release of Debian each. The command runs in a chroot of the release that has the
wanted version, made once by debootstrap from the mirror of this machine's own apt sources, and kept below build/ (or below
UNDO_SLURM_ROOTS). Mounted into it are the checkout, the interpreter, /proc, /dev, /sys and /tmp, in a mount namespace that ends with the command.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from tests.slurmlab.processes import installed_version

REPO = Path(__file__).resolve().parents[2]
RELEASES = {"22.05": "bookworm", "24.11": "trixie"}  # version of SLURM: the release of Debian that has it
# SLURM and its accounting, what the tests call, and the libraries of an interpreter that was built for another release.
PACKAGES = (
    *("slurm-wlm", "slurmctld", "slurmd", "slurm-client", "slurmdbd", "mariadb-server", "munge"),
    *("procps", "git", "ca-certificates"),
    *(
        "libffi8",
        "libbz2-1.0",
        "liblzma5",
        "libsqlite3-0",
        "libncursesw6",
        "libstdc++6",
        "libexpat1",
        "zlib1g",
    ),
)
RENAMED = {"bookworm": ("libssl3", "libreadline8"), "trixie": ("libssl3t64", "libreadline8t64")}


class Unavailable(RuntimeError):
    """This machine cannot make or enter the chroot."""


def is_version(have: str, wanted: str) -> bool:
    """PURE: whether 22.05.8 is a 22.05."""
    return have == wanted or have.startswith(wanted + ".")


def mirror() -> str:
    """The Debian mirror of this machine's apt sources."""
    said = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
    ).stdout
    for line in said.splitlines():
        if line.startswith("Debian Debian "):
            return line.split()[-1]
    raise Unavailable("no mirror of Debian among the apt sources of this machine")


def chroot_of(version: str) -> Path:
    """The folder with that version, made where it is missing. Raises Unavailable."""
    roots = Path(os.environ.get("UNDO_SLURM_ROOTS") or REPO / "build" / "slurm")
    root = roots / version
    if is_version(installed_version(str(root)) if root.is_dir() else "", version):
        return root
    if os.geteuid() != 0:
        raise Unavailable("only root can make a chroot")
    if shutil.which("debootstrap") is None:
        raise Unavailable("debootstrap is not installed (apt-get install debootstrap)")
    release, site = RELEASES[version], mirror()
    roots.mkdir(parents=True, exist_ok=True)
    new = roots / f".{version}-{os.getpid()}"
    print(
        f"SLURM {version}: makes {root} from {site} ({release}), about a minute and 800 MB", file=sys.stderr
    )
    try:
        wanted = ",".join((*PACKAGES, *RENAMED[release]))
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={wanted}", release, str(new), site],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise Unavailable("debootstrap failed:\n" + "\n".join(done.stdout.splitlines()[-15:]))
        have = installed_version(str(new))
        if not is_version(have, version):
            raise Unavailable(f"{release} has SLURM {have or 'unknown'}, not {version}")
        shutil.rmtree(root, ignore_errors=True)
        new.rename(root)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return root


def mounts() -> list[Path]:
    """What of this machine a command in the chroot sees, beside /proc, /dev and /sys: the checkout, the interpreter, temporary files."""
    interpreter = Path(sys.executable).resolve()
    wanted = [REPO, Path(sys.prefix).resolve(), Path("/tmp")]
    if sys.base_prefix == "/usr":  # the chroot has a /usr of its own
        wanted += [interpreter, Path(sysconfig.get_path("stdlib"))]
    else:
        wanted.append(Path(sys.base_prefix).resolve())
    return outermost(wanted)


def outermost(paths: Iterable[Path]) -> list[Path]:
    """PURE: the paths without those that lie in another one of them; the same order in each process (a set has none)."""
    found: list[Path] = []
    for path in sorted(set(paths), key=lambda path: (len(path.parts), path)):
        if not any(path.is_relative_to(other) for other in found):
            found.append(path)
    return found


def inside(version: str, command: list[str]) -> list[str]:
    """The command line that runs a command with that version of SLURM. Raises Unavailable."""
    if version not in RELEASES:
        raise Unavailable(f"no version {version}; known are {', '.join(RELEASES)}")
    if is_version(installed_version(), version):
        return command
    root = chroot_of(version)
    if os.geteuid() != 0:
        raise Unavailable("only root can enter a chroot")
    lines = ["set -e", f"mount --bind {shlex.quote(str(root))} {shlex.quote(str(root))}"]
    for path in mounts():
        at = shlex.quote(f"{root}{path}")
        lines += [
            f"mkdir -p {at}" if path.is_dir() else f"mkdir -p $(dirname {at}) && touch {at}",
            f"mount --rbind {shlex.quote(str(path))} {at}",
        ]
    lines += [f"mount --rbind {path} {shlex.quote(str(root))}{path}" for path in ("/proc", "/dev")]
    # A container may refuse this one; `lscpu` alone needs it, which vLLM's CPU build asks.
    lines.append(f"mount --rbind /sys {shlex.quote(str(root))}/sys || true")
    # Links that lead to what is mounted (a virtual environment that is a link) are followed in the chroot as here.
    (root / "etc" / "hosts").write_text(f"127.0.0.1 localhost {socket.gethostname()}\n")
    here = Path.cwd() if any(Path.cwd().is_relative_to(path) for path in mounts()) else REPO
    lines.append(
        f"exec chroot {shlex.quote(str(root))} /usr/bin/env --chdir={shlex.quote(str(here))} "
        f"PATH={shlex.quote(os.environ.get('PATH', ''))}:/usr/sbin:/usr/bin:/sbin:/bin UNDO_SLURM_VERSION={version} {shlex.join(command)}"
    )
    return ["unshare", "--mount", "--propagation", "private", "bash", "-c", "\n".join(lines)]


def main() -> int:
    """Replaces this process by the command; 2 where the version cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.slurmlab.versions", description=__doc__)
    parser.add_argument("version", choices=RELEASES)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    try:
        command = inside(given.version, given.command)
    except Unavailable as error:
        print(f"error: SLURM {given.version} cannot be had here: {error}", file=sys.stderr)
        return 2
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
