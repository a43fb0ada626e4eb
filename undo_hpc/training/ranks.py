"""Who this process is among the ranks, and how they find each other. No launcher is needed: plain or SLURM variables do."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.errors import ConfigError, ExitCode, TrainingError, UndoError
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.opening import read_bytes
from undo_hpc.system.network import routed_address

if TYPE_CHECKING:
    import torch.distributed as dist

_RENDEZVOUS_S = 600.0
_COLLECTIVE = timedelta(
    hours=2
)  # a rank that died is noticed by its launcher long before; slow file systems are not


@dataclass(frozen=True)
class RankInfo:
    """This process among the others: `rank` of `world_size`, `local_rank` on its machine; all count from 0."""

    rank: int
    world_size: int
    local_rank: int

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes what is written once."""
        return self.rank == 0

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> RankInfo:
        """From RANK, WORLD_SIZE, LOCAL_RANK, else from srun's variables, else alone. Raises ConfigError where they are inconsistent."""
        if "RANK" in env or "WORLD_SIZE" in env:
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        elif "SLURM_PROCID" in env and int(env.get("SLURM_STEP_NUM_TASKS", env.get("SLURM_NTASKS", "1"))) > 1:
            names = (
                "SLURM_PROCID",
                "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in env else "SLURM_NTASKS",
                "SLURM_LOCALID",
            )
        else:
            return cls(0, 1, 0)
        try:
            rank, world = int(env[names[0]]), int(env[names[1]])
            local = int(env.get(names[2], "0"))
        except KeyError as error:
            raise ConfigError(
                f"{error.args[0]} is not set, while {' and '.join(n for n in names[:2] if n in env)} is",
                hint="set RANK, WORLD_SIZE and LOCAL_RANK together, or none of them for one process",
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"{', '.join(names)} must be whole numbers: {error}", hint="unset them for one process"
            ) from error
        if not 0 <= rank < world:
            raise ConfigError(f"{names[0]}={rank} is not below {names[1]}={world}", hint="ranks count from 0")
        return cls(rank, world, local)


def rendezvous_key(env: Mapping[str, str]) -> str:
    """What tells this start's meeting file from that of an earlier start: job id, step and restart count."""
    parts = (
        env.get("SLURM_JOB_ID", "local"),
        env.get("SLURM_STEP_ID", "0"),
        env.get("SLURM_RESTART_COUNT", "0"),
    )
    return "-".join(parts)


def own_address(env: Mapping[str, str]) -> str:
    """An address of this machine that others can reach. Node names may not resolve, so a number is preferred."""
    if (address := env.get("SLURM_LAUNCH_NODE_IPADDR")) and int(env.get("SLURM_NODEID", "0")) == 0:
        return address
    return routed_address()


def rendezvous(
    info: RankInfo, work_dir: Path, env: Mapping[str, str], *, patience_s: float = _RENDEZVOUS_S
) -> dist.Store:
    """The store through which the ranks find each other.

    With MASTER_PORT set, at MASTER_ADDR and that port. Else rank 0 listens on a port that the system gives it and publishes
    the address in a file of `work_dir`, which the others wait for.

    Raises TrainingError where the others do not come within `patience_s`.
    """
    import torch.distributed as dist

    wait = timedelta(seconds=patience_s)
    address, port = env.get("MASTER_ADDR", "127.0.0.1"), int(env.get("MASTER_PORT", "0"))
    path = work_dir / f"meeting-{rendezvous_key(env)}.json"
    try:
        if info.is_first:
            store = dist.TCPStore(
                address if port else "0.0.0.0",  # noqa: S104
                port,
                info.world_size,
                is_master=True,
                wait_for_workers=False,
                timeout=wait,
            )
            if not port:
                own = own_address(env) if int(env.get("SLURM_NNODES", "1")) > 1 else "127.0.0.1"
                write_json(path, {"address": own, "port": store.port})
            return store
        if not port:
            address, port = _published(path, info, patience_s)
        return dist.TCPStore(address, port, info.world_size, is_master=False, timeout=wait)
    except dist.DistError as error:
        raise TrainingError(
            f"rank {info.rank} cannot meet the others at {address}:{port}: {error}",
            hint="is rank 0 running, and may the nodes talk to each other on this port?",
        ) from error


def _published(path: Path, info: RankInfo, patience_s: float) -> tuple[str, int]:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if path.parent.is_dir():
            list(path.parent.iterdir())  # refreshes a network file system's view
        try:
            found = json.loads(read_bytes(path) or b"")
            return str(found["address"]), int(found["port"])
        except json.JSONDecodeError:  # not there yet, or not whole
            time.sleep(0.2)
    raise TrainingError(
        f"rank {info.rank} waited {patience_s:.0f} s for {path}, which rank 0 writes at its start",
        hint="is rank 0 running, and is this folder shared by all nodes?",
    )


class DistContext:
    """The ranks together: one process group, and the few things they agree on. Alone, nothing is sent, and it listens on loopback only.

    Args:
        info: this process among the ranks.
        work_dir: where rank 0 publishes its address, a folder that all nodes share.
        env: MASTER_ADDR and MASTER_PORT, or SLURM's variables.

    Attributes:
        device: this rank's GPU, or the CPU.

    Raises:
        TrainingError: the other ranks do not come within 10 minutes.
    """

    def __init__(self, info: RankInfo, work_dir: Path, env: Mapping[str, str]) -> None:
        import torch
        import torch.distributed as dist

        self.info = info
        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            self.device = torch.device(
                "cuda", info.local_rank if info.local_rank < count else info.local_rank % count
            )
            torch.cuda.set_device(self.device)
        else:
            self.device = torch.device("cpu")
        os.environ["LOCAL_RANK"] = str(
            self.device.index or 0 if self.device.type == "cuda" else info.local_rank
        )  # DeepSpeed takes its device from it
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        if info.world_size == 1:
            # It sends nothing, and its libraries listen all the same: not on the network, where anybody's connections could end it.
            if sys.platform == "linux":
                os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
            dist.init_process_group(
                backend, store=dist.HashStore(), rank=0, world_size=1, timeout=_COLLECTIVE
            )
        else:
            store = rendezvous(info, work_dir, env)
            dist.init_process_group(
                backend, store=store, rank=info.rank, world_size=info.world_size, timeout=_COLLECTIVE
            )
            self.barrier()
            if info.is_first:  # all have met: the file must not mislead a later start
                (work_dir / f"meeting-{rendezvous_key(env)}.json").unlink(missing_ok=True)

    def all_reduce_max(self, *values: float) -> list[float]:
        """The largest of each value over all ranks, known to all."""
        return self._reduce(values, "MAX")

    def all_reduce_sum(self, *values: float) -> list[float]:
        """The sum of each value over all ranks, known to all."""
        return self._reduce(values, "SUM")

    def _reduce(self, values: tuple[float, ...], how: str) -> list[float]:
        if self.info.world_size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        box = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(box, op=getattr(dist.ReduceOp, how))
        return [float(v) for v in box.tolist()]

    def barrier(self) -> None:
        """Returns when all ranks are here."""
        self.all_reduce_max(0.0)

    def on_rank_zero(self, work: Callable[[], None]) -> None:
        """Rank 0 does the work, the others wait. Its failure is raised on rank 0, and as TrainingError of the same exit code elsewhere."""
        failure: Exception | None = None
        if self.info.is_first:
            try:
                work()
            except Exception as error:  # noqa: BLE001 -- raised again below, after the others know
                failure = error
        code = failure.exit_code if isinstance(failure, UndoError) else ExitCode.FAILED
        worst = self.all_reduce_max(float(code) if failure is not None else 0.0)[0]
        if failure is not None:
            raise failure
        if worst:
            elsewhere = TrainingError("rank 0 failed; its log says why", hint="see the log of rank 0")
            elsewhere.exit_code = ExitCode(int(worst))
            raise elsewhere

    def close(self) -> None:
        """Leaves the process group."""
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
