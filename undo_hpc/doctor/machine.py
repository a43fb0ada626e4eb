"""GPUs, the file system of the run directories, and the room on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from undo_hpc.config.parts import effective_iterations
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.checks.finding import Finding
from undo_hpc.doctor.packages import installed
from undo_hpc.errors import UndoError
from undo_hpc.models.resolve import resolve_model
from undo_hpc.system.data_files import expanded

SHARED = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cephfs", "fuse.ceph", "wekafs", "panfs", "pvfs2", "orangefs", "afs",
          "glusterfs", "fuse.glusterfs", "cifs", "smb3", "9p", "fuse.juicefs", "fuse.sshfs", "vast")  # fmt: skip
MOUNTS = Path("/proc/mounts")
BYTES_PER_TOKEN = 5.0  # text of a token, with its share of a row
TRAINING_BYTES = {
    "fp32": 12.0,
    "bf16": 14.0,
}  # a weight in a checkpoint: master, two moments, and the weight itself


def check_gpu() -> Iterator[Finding]:
    """GPUs, asked of the driver."""
    if shutil.which("nvidia-smi") is None:
        yield Finding(
            "ok", "GPU", "none on this machine (a login node needs none; the tiny preset runs on CPU)"
        )
        return
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
                              capture_output=True, text=True, timeout=30, check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(
            "warning",
            "GPU",
            f"nvidia-smi does not answer ({type(error).__name__})",
            "ask the administrators, or take another node",
        )
        return
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not lines:
        yield Finding(
            "warning",
            "GPU",
            f"nvidia-smi: {(done.stderr or done.stdout).strip().splitlines()[-1:] or ['no device']}",
            "no GPU can be used here",
        )
        return
    torch = installed().get("torch", "")
    yield Finding("ok", "GPU", f"{len(lines)} x {lines[0]}")
    if torch.endswith("+cpu"):
        yield Finding(
            "error",
            "GPU",
            f"torch {torch} is a CPU build",
            "install torch without the CPU index on this machine",
        )


def mount_of(path: Path) -> tuple[str, str]:
    """Mount point and type of the file system that holds a path, by /proc/mounts; empty where it cannot be told."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return "", ""
    best = ("", "")
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = path == Path(point) or Path(point) in path.parents
        if inside and len(point) >= len(best[0]):
            best = (point, fields[2])
    return best


def existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def check_file_system(folder: Path, *, cluster: bool) -> Iterator[Finding]:
    """Whether run directories can live there: writable, atomic, and seen by compute nodes."""
    place = existing(folder)
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".undo-doctor-") as name:
            _try_out(Path(name))
    except OSError as error:
        yield Finding(
            "error",
            "run directories",
            f"{place}: {error.strerror or error}",
            "choose another place with --run-dir",
        )
        return
    point, kind = mount_of(place)
    detail = f"{place} on {kind or 'an unknown file system'}{f' ({point})' if point else ''}"
    if kind in SHARED:
        yield Finding("ok", "run directories", f"{detail}: shared, writable, atomic")
    elif cluster:
        yield Finding("warning", "run directories", f"{detail}: this does not look like a shared file system",
                      "compute nodes must see the run directory; put it on the cluster's scratch or project space with --run-dir")  # fmt: skip
    else:
        yield Finding("ok", "run directories", f"{detail}: writable, atomic")


def _try_out(folder: Path) -> None:
    """What our files rest on: fsync of file and folder, rename over a name, a hard link that fails where the name exists."""
    first, second = folder / "a", folder / "b"
    first.write_bytes(b"1")
    with first.open("rb") as file:
        os.fsync(file.fileno())
    os.link(first, second)
    try:
        os.link(first, second)
    except FileExistsError:
        pass
    else:
        raise OSError("a hard link overwrote a name: leases are not safe here")
    first.replace(second)
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def weights(model: str, revision: str = "") -> int | None:
    """Bytes of a model's weights, locally or in the Hub's cache; None where it is not there."""
    folder = expanded(model)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(model, "config.json", revision=revision or None)
        except HFValidationError:
            return None
        if not isinstance(found, str):
            return None
        folder = Path(found).parent
    sizes = [
        path.stat().st_size
        for pattern in ("*.safetensors", "pytorch_model*.bin")
        for path in folder.glob(pattern)
    ]
    return sum(sizes) or None


def needed_bytes(
    config: RunConfig, student_bytes: int | None, problems: int | None = None
) -> tuple[float, str]:
    """PURE: an upper estimate of what a run takes on disk, and what it consists of.

    Args:
        config: the run.
        student_bytes: size of the student's weights; None where they are not on this machine.
        problems: number of training problems; None goes by `sample`, or by 10,000.
    """
    iterations = effective_iterations(config)
    problems = problems or config.data.train.sample or 10_000
    made = problems * config.generate.max_attempts * config.generate.sampling.max_new_tokens * BYTES_PER_TOKEN
    answered = problems * config.evaluate.samples * config.evaluate.sampling.max_new_tokens * BYTES_PER_TOKEN
    rows = 3 * (made + answered)  # shards, distilled set, predictions
    total, parts = iterations * rows, [f"rows at most {size(iterations * rows)}"]
    if student_bytes:
        per_weight = TRAINING_BYTES[config.train.precision] / 2.0  # the files hold two bytes a weight, mostly
        checkpoints = config.train.checkpoint.keep * student_bytes * per_weight
        total += iterations * student_bytes + checkpoints
        parts.append(f"students {size(iterations * student_bytes)}, checkpoints {size(checkpoints)}")
    else:
        parts.append("students not counted (the model is not on this machine)")
    return total, "; ".join(parts)


def size(value: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def check_space(config: RunConfig, folder: Path, problems: int | None = None) -> Iterator[Finding]:
    """Free space against the estimate, for a number of problems where it is known."""
    free = shutil.disk_usage(existing(folder)).free
    try:
        student = (
            weights(resolve_model(config.student.model), config.student.revision)
            if config.student.model
            else None
        )
    except UndoError:  # the check of the models reports it
        student = None
    needed, parts = needed_bytes(config, student, problems)
    detail = f"{size(free)} free, the run takes about {size(needed)} ({parts})"
    if free < needed:
        yield Finding("error" if free < needed / 3 else "warning", "free space", detail, "free some, choose another --run-dir, or keep fewer checkpoints "
                      "(train.checkpoint.keep); a quota may be smaller still")  # fmt: skip
    else:
        yield Finding("ok", "free space", detail)


def dumps(findings: list[Finding]) -> str:
    """JSON for programs."""
    return json.dumps([finding.__dict__ for finding in findings], indent=2)
