"""The laboratory itself: what the other tests stand on."""

import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.slurmlab import Lab
from tests.slurmlab.processes import installed_version, job_processes, wait_until
from tests.slurmlab.versions import is_version, outermost
from undo_hpc.cluster.render import PRELUDE


def test_jobs_run_on_several_nodes_and_gpus_are_exclusive(lab: Lab, tmp_path: Path) -> None:
    # None ends before all eight have started, or one that starts late would take an earlier one's GPU.
    script = (
        f"echo $SLURMD_NODENAME ${{CUDA_VISIBLE_DEVICES}}; touch {tmp_path}/up.$SLURM_ARRAY_TASK_ID; "
        f"for k in $(seq 600); do [ $(ls {tmp_path} | grep -c up) = 8 ] && break; sleep 0.1; done"
    )
    lab.run("sbatch", "--array=0-7", "--gres=gpu:1", "--mem=100", "-o", f"{tmp_path}/%a", "--wrap", script)
    lab.wait_empty()
    seen = sorted((tmp_path / str(i)).read_text().strip() for i in range(8))
    assert seen == sorted(f"{node} {gpu}" for node in lab.nodes for gpu in range(2))


def test_stop_leaves_no_process_and_no_file() -> None:
    with Lab() as lab:
        lab.run(
            "sbatch", "--array=0-3", "-o", "/dev/null", "--wrap", "trap '' TERM; sleep 600", cwd=Path("/tmp")
        )
        wait_until(lambda: len(job_processes(lab.slurm_conf)) >= 4, 120, "job processes")
        lab.kill("n1")
    assert job_processes(lab.slurm_conf) == []
    assert not lab.places.root.exists()


def test_the_command_for_people_starts_and_stops_cleanly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.slurmlab"], cwd=REPO, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    text = ""
    while "Ctrl-C" not in text:
        line = process.stdout.readline()
        assert line, text
        text += line
    conf = next(line.split("=", 1)[1] for line in text.splitlines() if "export SLURM_CONF" in line).strip()
    nodes = subprocess.run(
        ["sinfo", "-h", "-o", "%D"], env=os.environ | {"SLURM_CONF": conf}, capture_output=True, text=True
    )
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert nodes.stdout.split()[0] == "4"
    assert not Path(conf).exists()


def test_the_version_that_was_asked_for_is_here() -> None:
    wanted = os.environ.get("UNDO_SLURM_VERSION")
    if not wanted:
        pytest.skip("no version was asked for: make test-slurm VERSION=24.11")
    assert is_version(installed_version(), wanted)


def test_of_paths_within_each_other_the_outermost_are_kept_in_a_fixed_order() -> None:
    assert outermost([Path("/a/b"), Path("/a"), Path("/ab"), Path("/a")]) == [Path("/a"), Path("/ab")]


def test_each_node_of_a_job_unpacks_what_its_tasks_import(lab: Lab, tmp_path: Path) -> None:
    """Two nodes with one disk here: one of them unpacks, the other waits for it."""
    (tmp_path / "soup.py").write_text("value = 'staged'\n")
    archive = tmp_path / "packages.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "soup.py", "soup.py")
    script = tmp_path / "job.sh"
    script.write_text(
        f"#!/bin/bash\nUNDO_STAGE_TO={tmp_path}/local UNDO_STAGE_ARCHIVE={archive}\nsource {PRELUDE}\nundo_stage\n"
        f"PYTHONPATH=$undo_paths srun --export=ALL {sys.executable} -P -c 'import soup; print(soup.value, soup.__file__)'\n"
    )
    lab.run(
        "sbatch",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--mem=100",
        "-o",
        f"{tmp_path}/log",
        str(script),
        cwd=tmp_path,
    )
    lab.wait_empty()
    text = (tmp_path / "log").read_text()
    assert text.count(" unpacked ") == 1 and text.count(f"staged {tmp_path}/local/undo-") == 2, text
