"""What a laboratory cluster looks like, and the configuration files that make SLURM run it without systemd and cgroups."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class LabSettings:
    """Shape and habits of a laboratory cluster.

    Attributes:
        nodes: virtual nodes n1.. on this host.
        cpus, memory_mb, gpus: of each node, all pretended. GPUs are device files that exist on every Linux (/dev/tty0..).
        auth: munge, or none for hosts without it.
        name: ClusterName.
        accounting: none, dbd for slurmdbd with a MariaDB of its own, or shared for the slurmdbd of another laboratory.
        shared: root and slurmdbd's port of that other laboratory.
        cred_expire: seconds; SLURM also takes it as the least delay before a requeued job starts again (stock: 120).
        min_job_age: seconds that a finished job stays known.
        grace: GraceTime of the partition `lowg`, seconds. `low` has none.
        kill_wait: seconds between SIGTERM and SIGKILL.
        max_array: MaxArraySize: the largest index is one less.
        kill_invalid_depend: the site cancels jobs whose dependency can never be fulfilled.
        user_signal_on_preempt: the site sends the job's own --signal when it preempts.
        extra: further lines of slurm.conf.
    """

    nodes: int = 4
    cpus: int = 4
    memory_mb: int = 8000
    gpus: int = 2
    auth: str = "munge"
    name: str = "lab"
    accounting: str = "none"
    shared: tuple[Path, int] | None = None
    cred_expire: int = 5
    min_job_age: int = 300
    grace: int = 20
    kill_wait: int = 5
    max_array: int = 1001
    kill_invalid_depend: bool = False
    user_signal_on_preempt: bool = False
    slurmd_timeout: int = 15
    extra: tuple[str, ...] = ()
    partitions: tuple[str, ...] = field(
        default=(
            "PartitionName=low Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=0",
            "PartitionName=lowg PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}",
            "PartitionName=high PriorityTier=10 PreemptMode=OFF",
        )
    )


@dataclass(frozen=True)
class Places:
    """Where a laboratory keeps its files, all under one prefix."""

    root: Path

    def __post_init__(self) -> None:
        if len(str(self.run)) > 80:
            raise ValueError(f"{self.root} is too long for the path of a Unix socket")

    @property
    def etc(self) -> Path:
        return self.root / "etc"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def database(self) -> Path:
        return self.root / "db"

    @property
    def slurm_conf(self) -> Path:
        return self.etc / "slurm.conf"

    @property
    def munge_socket(self) -> Path:
        return self.run / "munge.sock"

    def make(self) -> None:
        """Creates the folders. munged insists that nobody else may write to those of its socket and log."""
        for folder in (self.root, self.etc, self.run, self.log, self.state, self.spool, self.database):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)


def slurm_conf(settings: LabSettings, places: Places, ports: list[int]) -> str:
    """The text of slurm.conf. `ports`: controller, database daemon, then one a node."""
    user, host = getpass.getuser(), socket.gethostname().split(".")[0]
    accounting = ["AccountingStorageType=accounting_storage/none"]
    dbd_munge, dbd_port = places.munge_socket, ports[1]
    if settings.shared is not None:
        dbd_munge, dbd_port = Places(settings.shared[0]).munge_socket, settings.shared[1]
    if settings.auth == "munge":
        auth = [
            "AuthType=auth/munge",
            "CredType=cred/munge",
            f"AuthInfo=socket={dbd_munge if settings.shared else places.munge_socket},cred_expire={settings.cred_expire}",
        ]
    else:
        auth = ["AuthType=auth/none", "CredType=cred/none", f"AuthInfo=cred_expire={settings.cred_expire}"]
    if settings.accounting != "none":
        accounting = [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=localhost",
            f"AccountingStoragePort={dbd_port}",
            f"AccountingStoragePass={dbd_munge}",
            "AccountingStorageTRES=gres/gpu",
            "AccountingStoreFlags=job_comment,job_script,job_env",
            "AccountingStorageEnforce=associations,limits",
        ]
    controller = ["preempt_send_user_signal"] if settings.user_signal_on_preempt else []
    lines = [
        f"ClusterName={settings.name}",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={ports[0]}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        *auth,
        *accounting,
        # No cgroups, no PAM, no MPI plugin: what a container offers.
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "SwitchType=switch/none",
        "MpiDefault=none",
        "ReturnToService=2",
        f"StateSaveLocation={places.state}",
        f"SlurmdSpoolDir={places.spool}/%n",
        f"SlurmctldPidFile={places.run}/slurmctld.pid",
        f"SlurmdPidFile={places.run}/slurmd-%n.pid",
        f"SlurmctldLogFile={places.log}/slurmctld.log",
        f"SlurmdLogFile={places.log}/slurmd-%n.log",
        "SlurmctldDebug=info",
        "SlurmdDebug=info",
        # A second is long in a test.
        "SchedulerType=sched/backfill",
        "SchedulerParameters=sched_interval=1,sched_min_interval=50000,batch_sched_delay=0,bf_interval=1,bf_continue",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "JobRequeue=1",
        *(["DependencyParameters=kill_invalid_depend"] if settings.kill_invalid_depend else []),
        *([f"SlurmctldParameters={','.join(controller)}"] if controller else []),
        f"MaxArraySize={settings.max_array}",
        "MaxJobCount=20000",
        "InactiveLimit=0",
        f"KillWait={settings.kill_wait}",
        f"MinJobAge={settings.min_job_age}",
        "SlurmctldTimeout=10",
        f"SlurmdTimeout={settings.slurmd_timeout}",
        "MessageTimeout=10",
        "BatchStartTimeout=30",
        "CompleteWait=0",
        "SlurmdParameters=config_overrides",  # believe the file, not the host's real size
        *(["GresTypes=gpu"] if settings.gpus else []),
        *settings.extra,
        f"NodeName=DEFAULT CPUs={settings.cpus} RealMemory={settings.memory_mb} State=UNKNOWN"
        + (f" Gres=gpu:{settings.gpus}" if settings.gpus else ""),
    ]
    lines += [
        f"NodeName=n{i + 1} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2 + i]}"
        for i in range(settings.nodes)
    ]
    lines += [
        f"PartitionName=DEFAULT Nodes=n[1-{settings.nodes}] MaxTime=INFINITE DefaultTime=60 State=UP DefMemPerCPU=100"
    ]
    lines += [line.format(grace=settings.grace) for line in settings.partitions]
    return "\n".join(lines) + "\n"


def gres_conf(settings: LabSettings) -> str:
    """The text of gres.conf: a file-less GPU would turn the nodes INVAL, so terminals stand in."""
    if not settings.gpus:
        return ""
    return f"NodeName=n[1-{settings.nodes}] Name=gpu File=/dev/tty[0-{settings.gpus - 1}]\n"


def cgroup_conf(version: str) -> str:
    """The text of cgroup.conf for a version of SLURM, e.g. 24.11.5: a container offers no cgroups."""
    year = int(version.split(".")[0] or 0) if version else 0
    return "CgroupPlugin=disabled\n" if year >= 24 else "CgroupAutomount=no\n"


def slurmdbd_conf(settings: LabSettings, places: Places, port: int) -> str:
    """The text of slurmdbd.conf; the database is reached over its socket (MYSQL_UNIX_PORT)."""
    user = getpass.getuser()
    auth = (
        ["AuthType=auth/munge", f"AuthInfo=socket={places.munge_socket}"]
        if settings.auth == "munge"
        else ["AuthType=auth/none"]
    )
    return (
        "\n".join(
            [
                *auth,
                "DbdHost=localhost",
                f"DbdPort={port}",
                f"SlurmUser={user}",
                f"LogFile={places.log}/slurmdbd.log",
                f"PidFile={places.run}/slurmdbd.pid",
                "StorageType=accounting_storage/mysql",
                "StorageHost=localhost",
                f"StorageUser={user}",
                "StorageLoc=slurm_acct",
                "DebugLevel=info",
            ]
        )
        + "\n"
    )


def mariadb_conf(places: Places) -> str:
    """The text of my.cnf: small, socket only."""
    return (
        "\n".join(
            [
                "[mysqld]",
                f"datadir={places.database}/data",
                f"socket={places.run}/mysql.sock",
                f"pid-file={places.run}/mysqld.pid",
                f"log-error={places.log}/mysqld.log",
                f"user={getpass.getuser()}",
                "skip-networking",
                "skip-name-resolve",
                "innodb_buffer_pool_size=64M",
                "innodb_log_file_size=16M",
                "innodb_flush_log_at_trx_commit=0",
                "innodb_lock_wait_timeout=900",
                "innodb_use_native_aio=0",
                "performance_schema=off",
            ]
        )
        + "\n"
    )
