"""Starting, watching and ending the laboratory's processes, and no others."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    # A killed pytest leaves no daemon behind.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def start_daemon(command: list[str], log: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts a daemon in the foreground mode, in a session of its own, as a child that we can wait for."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=env,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def end(process: subprocess.Popen[bytes] | None, seconds: float = 10.0) -> None:
    """SIGTERM, then SIGKILL after `seconds`; waits until the process is gone."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], seconds: float, what: str, every: float = 0.1) -> None:
    """Waits for a condition. Raises TimeoutError that says what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(every)


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty where it is gone or not ours to read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in raw.decode("utf-8", "replace").split("\0") if "=" in entry)


def command_of(pid: int) -> str:
    """The command line of a process, or nothing where it is gone (or a zombie)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def job_processes(slurm_conf: Path) -> list[int]:
    """Processes that jobs of this laboratory left: they carry its SLURM_CONF and a job's id (or are a slurmstepd)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        pid = int(entry.name)
        env = environment_of(pid)
        if env.get("SLURM_CONF") != str(slurm_conf):
            continue
        if "SLURM_JOB_ID" in env or "slurmstepd" in command_of(pid).split(":")[0]:
            found.append(pid)
    return found


def installed_version(root: str = "/") -> str:
    """Version of slurmd, e.g. 22.05.8; empty where there is none."""
    command = [] if root == "/" else ["chroot", root]
    program = shutil.which("slurmd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or "slurmd"
    try:
        said = subprocess.run(
            [*command, program if root == "/" else "/usr/sbin/slurmd", "-V"], capture_output=True, text=True
        ).stdout
    except OSError:
        return ""
    return said.split()[-1] if said.split() else ""


def free_ports(count: int) -> list[int]:
    """Ports that nobody holds, below the ephemeral range so that no outgoing connection takes them meanwhile."""
    floor = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = random.sample(range(10_000, max(floor, 12_000)), 400)
    ports: list[int] = []
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("no free ports")
