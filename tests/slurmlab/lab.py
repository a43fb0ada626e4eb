"""A private SLURM cluster on one host: real daemons, virtual nodes, private ports, nothing installed, nothing left."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.slurmlab import settings as conf
from tests.slurmlab.processes import (
    end,
    environment_of,
    free_ports,
    installed_version,
    job_processes,
    start_daemon,
    wait_until,
)
from tests.slurmlab.settings import LabSettings, Places

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol")


def _which(program: str) -> str | None:
    # Daemons live in sbin, which is not on every user's PATH.
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")


def missing_programs(settings: LabSettings | None = None) -> list[str]:
    """Programs that this laboratory needs and the host lacks."""
    settings = settings or LabSettings()
    needed = [*PROGRAMS]
    if settings.auth == "munge":
        needed.append("munged")
    if settings.accounting == "dbd":
        needed += ["slurmdbd", "mariadbd", "mysql_install_db", "mysqladmin"]
    return [program for program in needed if _which(program) is None]


class Lab:
    """A cluster to be started, hurt and stopped.

    Args:
        settings: its shape.
        prefix: folder of its files; a short temporary one by default, removed by `stop` unless `keep`.
    """

    def __init__(
        self, settings: LabSettings | None = None, prefix: Path | None = None, *, keep: bool = False
    ) -> None:
        self.settings = settings or LabSettings()
        self.keep = keep
        self.places = Places(prefix or Path(tempfile.mkdtemp(prefix="undolab-", dir="/tmp")))
        self.ports = free_ports(2 + self.settings.nodes)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    # -- environment ---------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes."""
        return [f"n{i + 1}" for i in range(self.settings.nodes)]

    @property
    def slurm_conf(self) -> Path:
        """The configuration file; SLURM's commands find the cluster by it (SLURM_CONF)."""
        return self.places.slurm_conf

    def env(self) -> dict[str, str]:
        """This process's environment, pointed at the laboratory and free of another cluster's variables."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
        kept["PATH"] = kept.get("PATH", "") + ":/usr/sbin:/sbin"
        return kept | {"SLURM_CONF": str(self.slurm_conf)}

    def run(self, *command: str, check: bool = True, timeout: float = 60, cwd: Path | None = None) -> str:
        """Runs one of SLURM's commands here; returns what it printed."""
        done = subprocess.run(
            command, env=self.env(), capture_output=True, text=True, timeout=timeout, cwd=cwd
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    # -- start and stop ------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Writes the configuration, starts all daemons, waits until every node takes work."""
        lacking = missing_programs(self.settings)
        if lacking:
            raise FileNotFoundError(f"not installed: {', '.join(lacking)}")
        self.configure()
        try:
            self._start_munge()
            self._start_accounting()
            self.start_controller()
            for node in self.nodes:
                self.start_node(node)
            self.wait_idle()
        except BaseException:
            self.stop()
            raise
        return self

    def configure(self) -> None:
        """Writes the configuration files."""
        self.places.make()
        etc = self.places.etc
        (etc / "slurm.conf").write_text(conf.slurm_conf(self.settings, self.places, self.ports))
        (etc / "gres.conf").write_text(conf.gres_conf(self.settings))
        (etc / "cgroup.conf").write_text(conf.cgroup_conf(installed_version()))
        if self.settings.auth == "munge" and not (etc / "munge.key").exists():
            with open(os.open(etc / "munge.key", os.O_WRONLY | os.O_CREAT, 0o400), "wb") as key:
                key.write(secrets.token_bytes(128))
        if self.settings.accounting == "dbd":
            (etc / "slurmdbd.conf").write_text(conf.slurmdbd_conf(self.settings, self.places, self.ports[1]))
            (etc / "slurmdbd.conf").chmod(0o600)
            (etc / "my.cnf").write_text(conf.mariadb_conf(self.places))

    def _daemon(self, name: str, *command: str, **env: str) -> None:
        if self.alive(name):
            return
        program = _which(command[0])
        assert program is not None
        self._daemons[name] = start_daemon(
            [program, *command[1:]], self.places.log / f"{name}.out", self.env() | env
        )

    def alive(self, name: str) -> bool:
        """Whether a daemon (munged, mariadbd, slurmdbd, slurmctld, or a node's name) runs."""
        process = self._daemons.get(name)
        return process is not None and process.poll() is None

    def _works(self, *command: str) -> bool:
        try:
            return subprocess.run(command, env=self.env(), capture_output=True, timeout=30).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def _start_munge(self) -> None:
        if self.settings.auth != "munge" or self.settings.shared is not None:
            return
        p = self.places
        self._daemon(
            "munged",
            "munged",
            "--foreground",
            "--num-threads=2",
            f"--key-file={p.etc}/munge.key",
            f"--socket={p.munge_socket}",
            f"--pid-file={p.run}/munged.pid",
            f"--seed-file={p.run}/munged.seed",
            f"--log-file={p.log}/munged.log",
        )
        wait_until(lambda: self._works("munge", "-S", str(p.munge_socket), "-n"), 60, "munged")

    def _start_accounting(self) -> None:
        if self.settings.accounting == "none":
            return
        if self.settings.accounting == "dbd":
            self._start_database()
        for what in (
            ("cluster", self.settings.name),
            ("account", "science", f"cluster={self.settings.name}"),
            ("user", os.environ.get("USER") or "root", "account=science", f"cluster={self.settings.name}"),
        ):
            self.run("sacctmgr", "-i", "add", *what, check=False)

    def _start_database(self) -> None:
        p, me = self.places, os.environ.get("USER") or "root"
        socket = str(p.run / "mysql.sock")
        if not (p.database / "data" / "mysql").is_dir():
            self.run(
                "mysql_install_db",
                f"--defaults-file={p.etc}/my.cnf",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={me}",
                "--skip-test-db",
                timeout=120,
            )
        self._daemon("mariadbd", "mariadbd", f"--defaults-file={p.etc}/my.cnf")
        wait_until(lambda: self._works("mysqladmin", f"--socket={socket}", "ping"), 60, "MariaDB")
        self.run("mysql", f"--socket={socket}", "-e", "create database if not exists slurm_acct")
        # libmariadb takes its socket from this variable where the host is localhost.
        self._daemon("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=socket)
        wait_until(lambda: self._works("sacctmgr", "-n", "-i", "list", "cluster"), 60, "slurmdbd", every=0.3)

    def start_controller(self) -> None:
        """Starts slurmctld (again) from its saved state."""
        self._daemon("slurmctld", "slurmctld", "-D", "-f", str(self.slurm_conf))
        wait_until(lambda: self._works("scontrol", "ping"), 30, "slurmctld")

    def controller_lives(self) -> bool:
        """Whether slurmctld runs; it may have died by itself."""
        process = self._daemons.get("slurmctld")
        return process is not None and process.poll() is None

    def start_node(self, node: str) -> None:
        """Starts a node's slurmd (again)."""
        (self.places.spool / node).mkdir(exist_ok=True)
        self._daemon(node, "slurmd", "-D", "-f", str(self.slurm_conf), "-N", node)

    def node_states(self) -> dict[str, str]:
        """State of each node, as sinfo says."""
        lines = self.run("sinfo", "-h", "-N", "-o", "%N %T", "-p", "low").split("\n")
        return dict(line.split(maxsplit=1) for line in lines if line.strip())

    def wait_idle(self, seconds: float = 60) -> None:
        """Waits until every node takes work."""
        good = {"idle", "mixed", "allocated", "completing"}
        wait_until(
            lambda: sum(s in good for s in self.node_states().values()) == self.settings.nodes,
            seconds,
            "all nodes up",
        )

    def stop(self) -> None:
        """Ends every job and daemon of this laboratory, and nothing else; removes its folder unless it was given."""
        if self.alive("slurmctld"):
            self._works("scancel", "--full", "-u", os.environ.get("USER") or "root")
            self.sweep()
            with contextlib.suppress(
                TimeoutError, RuntimeError
            ):  # a slurmd waits long for jobs whose end nobody hears of
                self.wait_empty(5)
        self.sweep()
        for names in (["slurmctld"], self.nodes, ["slurmdbd"], ["mariadbd"], ["munged"]):
            for name in names:
                process = self._daemons.get(name)
                if process is not None and process.poll() is None:
                    process.terminate()  # all at once, then wait for each
            for name in names:
                end(self._daemons.pop(name, None))
        self.sweep()
        if not self.keep:
            shutil.rmtree(self.places.root, ignore_errors=True)

    def sweep(self, node: str | None = None) -> int:
        """Kills what jobs left running (of one node, or everywhere); returns how many processes."""
        killed = 0
        for pid in job_processes(self.slurm_conf):
            if node is not None and environment_of(pid).get("SLURMD_NODENAME") != node:
                continue
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
        return killed

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- harm ----------------------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """SIGKILL to a daemon (slurmctld or a node's slurmd). Job processes of a killed node run on, as in life."""
        process = self._daemons[name]
        process.kill()
        process.wait()

    def stop_controller(self) -> None:
        """SIGTERM to slurmctld: it saves its state."""
        end(self._daemons.pop("slurmctld", None))

    # -- questions -----------------------------------------------------------------------------------------------

    def jobs(self) -> list[dict[str, str]]:
        """What squeue lists, one entry a task: id, name, state, reason, comment."""
        lines = self.run("squeue", "-h", "-a", "-r", "-o", "%i|%j|%T|%r|%k").splitlines()
        return [
            dict(zip(("id", "name", "state", "reason", "comment"), line.split("|", 4), strict=True))
            for line in lines
        ]

    def show(self, job: str) -> dict[str, str]:
        """`scontrol show job` as a mapping; empty where the job is unknown."""
        done = subprocess.run(
            ["scontrol", "show", "job", "-o", job], env=self.env(), capture_output=True, text=True
        )
        if done.returncode != 0:
            return {}
        return dict(word.split("=", 1) for word in done.stdout.split("\n")[0].split() if "=" in word)

    def clear(self) -> None:
        """Cancels all jobs, waits until they are gone, and kills what they may have left."""
        self._works("scancel", "--full", "-u", os.environ.get("USER") or "root")
        self.wait_empty(60)
        self.sweep()

    def wait_empty(self, seconds: float = 120) -> None:
        """Waits until no job is left."""
        wait_until(lambda: not self.jobs(), seconds, "an empty queue", every=0.3)
