"""What sites put around SLURM's commands: text before and behind sbatch's answer, plugins that rewrite jobs. Shims of sbatch on a real
cluster; which public reports they follow stands beside each."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.conftest import same_results
from tests.slurm.small import Campaign, continued
from tests.slurmlab import Lab
from tests.slurmlab.processes import wait_until
from undo_hpc.cli.__main__ import main
from undo_hpc.cluster.base import Submission
from undo_hpc.cluster.identity import read_marks
from undo_hpc.cluster.profile import Profile
from undo_hpc.cluster.slurm import SlurmCluster
from undo_hpc.config.schema import StageResources
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import open_run

Make = Callable[..., Campaign]
STAGES = ["generate", "merge", "train", "evaluate", "advance"]


def shim(
    small: Campaign, monkeypatch: pytest.MonkeyPatch, name: str, script: str, *, test_only: bool = False
) -> None:
    """Puts a script before one of SLURM's commands, which the script calls by its name; sbatch's `--test-only` goes past it by default."""
    past = "" if test_only else f'case " $* " in *" --test-only "*) exec {name} "$@";; esac'
    folder = small.folder / "shim"
    folder.mkdir(parents=True, exist_ok=True)
    real = ":".join(part for part in os.environ["PATH"].split(":") if part != str(folder))
    (folder / name).write_text(f'''#!/bin/bash
export PATH="{real}"
{past}
{script}
''')
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{real}")


def queued(lab: Lab, small: Campaign) -> dict[str, str]:
    """Job ids of the first iteration in the queue by stage, as SLURM knows them; each stage once."""
    found: dict[str, str] = {}
    for line in lab.run("squeue", "-h", "-o", "%F|%j|%k|%o").splitlines():
        job_id, _, rest = line.partition("|")
        name, script = read_marks(rest)
        if name and name.iteration == 0 and script.startswith(str(small.run_dir)):
            assert found.setdefault(name.stage, job_id) == job_id, f"{name.stage} is queued twice"
    return found


def journal(small: Campaign) -> list[dict[str, str]]:
    return [json.loads(line) for line in (small.run_dir / "submissions.jsonl").read_text().splitlines()]


@pytest.fixture
def quiet_lab(lab: Lab) -> Iterator[Lab]:
    """The shared cluster, whose partitions `low` and `lowg` start no jobs."""
    partitions(lab, "DOWN")
    yield lab
    partitions(lab, "UP")


def partitions(lab: Lab, state: str) -> None:
    for name in ("low", "lowg"):
        lab.run("scontrol", "update", f"PartitionName={name}", f"State={state}")


SHIMS = [
    # A notice with the number of another job of the same user, first and last (batchtools#243, maestrowf#441, nipype#1330).
    'echo "Note: your previous job $FOREIGN used only 3 % of its memory"; exec sbatch "$@"',
    'sbatch "$@"; code=$?; echo "INFO: your running job $FOREIGN is charged to account liu"; exit $code',
    'echo "Submitted batch job $FOREIGN"; sbatch "$@" || exit; echo "$FOREIGN"',
    # The bare number, alone or with the cluster's name (dask-jobqueue#209, clusterfutures#24, parsl#2636).
    'exec sbatch --parsable "$@"',
    'echo "$(sbatch --parsable "$@");lab"',
    'echo "$(sbatch "$@") on cluster lab"',
    'sbatch "$@" > /dev/null',
    'sbatch "$@" | sed "s/[0-9]*$/999999/"',
    # A wrapper that tries again though the first try was accepted.
    'sbatch "$@" > /dev/null; exec sbatch "$@"',
    'sbatch "$@" > /dev/null; sbatch "$@" > /dev/null',
    # A plugin that rewrites, prefixes or cuts the name.
    'exec sbatch -J user_root "$@"',
    'exec sbatch -J "root:$(sed -n "s/^#SBATCH --job-name=//p" "$1")" "$@"',
    'exec sbatch -J "$(sed -n "s/^#SBATCH --job-name=//p" "$1" | cut -c1-12)" --comment= "$@"',
    'exec sbatch --comment="project 7" "$@"',
    # Another partition than was asked for.
    'exec sbatch -p lowg "$@"',
    # Accepted, and the answer was an error (nextflow#970).
    'sbatch "$@" > /dev/null; echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1',
    'sbatch "$@" > /dev/null; echo "sbatch: error: something went wrong" >&2; exit 1',
]


_ALIVE = ("PENDING", "RUNNING")  # SLURM may not have started it yet


def foreign_job(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> str:
    """A job of the same user that is not the run's, running or about to; scripts know its id as FOREIGN."""
    job = lab.run("sbatch", "--parsable", "-p", "high", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    monkeypatch.setenv("FOREIGN", job)
    return job


@pytest.mark.parametrize("script", SHIMS)
def test_ids_are_those_of_the_jobs_that_carry_our_names(
    quiet_lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    lab, small = quiet_lab, campaign()
    foreign = foreign_job(lab, monkeypatch)
    shim(small, monkeypatch, "sbatch", script)
    cluster = SlurmCluster(Profile.model_validate(small.profile), small.folder, (), small.run_dir)
    after: tuple[str, ...] = ()
    for stage in ("generate", "merge", "train"):
        indices = (0, 1) if stage == "generate" else None
        after = cluster.submit(Submission(small.run_dir, 0, stage, indices, StageResources(), after, "0" * 8))
    ids = queued(lab, small)
    assert sorted(ids) == ["generate", "merge", "train"]
    names = {e["name"]: e["job_id"] for e in journal(small) if e["event"] in ("submitted", "found")}
    assert {name.split("-")[0]: job_id for name, job_id in names.items()} == ids
    for before, behind in (("generate", "merge"), ("merge", "train")):
        assert ids[before] in lab.show(ids[behind])["Dependency"]
    assert {job.id for job in cluster.live_jobs("0" * 8)} == set(ids.values())
    cluster.cancel([*ids.values(), foreign])
    assert queued(lab, small) == {}
    assert lab.show(foreign)["JobState"] in _ALIVE


@pytest.mark.parametrize("script", [SHIMS[0], SHIMS[10]], ids=["another_number", "another_name"])
def test_a_launcher_on_such_a_site(
    quiet_lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    lab, small = quiet_lab, campaign()
    foreign = foreign_job(lab, monkeypatch)
    shim(small, monkeypatch, "sbatch", script)
    small.profile["defaults"]["partition"] = "low,lowg"  # whichever is free first
    small.launch()
    assert sorted(queued(lab, small)) == sorted(STAGES)
    assert "nothing to submit" in small.launch().stdout, "the second launch knows the jobs of the first"
    assert main(["cancel", str(small.run_dir)]) == 0
    assert queued(lab, small) == {}
    assert lab.show(foreign)["JobState"] in _ALIVE


def test_a_refusal_never_cancels_a_job_that_is_not_ours(
    quiet_lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, small = quiet_lab, campaign()
    foreign = foreign_job(lab, monkeypatch)
    shim(
        small,
        monkeypatch,
        "sbatch",
        """echo "INFO: your running job $FOREIGN will be charged"; echo "Submitted batch job $FOREIGN"
grep -q job-name=train "$1" && { echo "sbatch: error: Batch job submission failed: Invalid qos specification" >&2; exit 1; }
exec sbatch "$@" """,
    )
    done = small.launch(check=False)
    assert done.returncode == 1 and "qos" in done.stderr, done.stderr
    assert queued(lab, small) == {}, "what was accepted before is taken back"
    assert lab.show(foreign)["JobState"] in _ALIVE


def test_a_cluster_that_rewrites_every_mark_is_refused_at_the_first_submission(
    quiet_lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, small = quiet_lab, campaign()
    shim(small, monkeypatch, "sbatch", 'cp "$1" "$0.job"; exec sbatch -J job --comment=none "$0.job"')
    done = small.launch(check=False)
    assert done.returncode == 1 and "carries the name generate-" in done.stderr, done.stderr
    assert len(lab.jobs()) == 2, "one array of two tasks was submitted, and nothing behind it"


def test_a_list_of_jobs_that_is_empty_or_old_never_makes_the_launcher_submit_twice(
    quiet_lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site answers squeue from a copy, or with nothing where it fails; the controller itself knows the jobs."""
    lab, small = quiet_lab, campaign()
    shim(small, monkeypatch, "squeue", 'case " $* " in *" -a "*) exit 0;; esac; exec squeue "$@"')
    small.launch()
    ids = queued(lab, small)
    assert sorted(ids) == sorted(STAGES)
    done = small.launch(check=False)
    assert done.returncode == 1 and "squeue does not list job" in done.stderr, done.stdout + done.stderr
    assert queued(lab, small) == ids
    (small.folder / "shim" / "squeue").unlink()
    assert "nothing to submit" in small.launch().stdout
    lab.run("scancel", ids["generate"])  # what is really gone is submitted again
    assert "submitted generate" in small.launch().stdout


def before_advance(done: Path, folder: Path) -> Campaign:
    """A copy of a finished run of two iterations, in whose first one advance alone is left to do."""
    small = continued(done, folder, iterations=2)
    for name in ("train", "student", "evaluate", "train.manifest.json"):
        whole = done / "run" / "iter_000" / name
        (shutil.copytree if whole.is_dir() else shutil.copy)(whole, small.run_dir / "iter_000" / name)
    return small


def test_passing_troubles_inside_a_job_do_not_end_the_run(
    lab: Lab, undisturbed_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """snakemake-executor-plugin-slurm#313: the controller moves to its backup host, then says what nobody knows, as advance submits."""
    begun = before_advance(undisturbed_dir, tmp_path / "begun")
    shim(
        begun,
        monkeypatch,
        "sbatch",
        """[ -n "$UNDO_CONTINUES_RUN" ] || [ -e "$0.login" ] || { touch "$0.login"
  echo "sbatch: error: Batch job submission failed: Unexpected message received" >&2; exit 1; }
[ -z "$UNDO_CONTINUES_RUN" ] || [ -e "$0.standby" ] || { touch "$0.standby"
  echo "sbatch: error: Batch job submission failed: Slurm backup controller in standby mode" >&2; exit 1; }
[ -z "$UNDO_CONTINUES_RUN" ] || [ -e "$0.unknown" ] || { touch "$0.unknown"
  echo "sbatch: error: Batch job submission failed: The controller has a headache" >&2; exit 1; }
real=$(command -v sbatch); export PATH="$(dirname "$0"):$PATH"; exec "$real" "$@" """,
    )
    begun.launch()  # the login node, too, tries again
    wait_until(
        lambda: {e.get("stage") for e in journal(begun) if e.get("iteration") == 1} >= set(STAGES),
        600,
        "the next iteration to be submitted",
    )
    assert (begun.folder / "shim" / "sbatch.unknown").exists()
    assert main(["cancel", str(begun.run_dir)]) == 0


@pytest.mark.parametrize("name", ["a100%b", "x%j %A, 100%% é", 'my run\'s "dir" $HOME;x'])
def test_any_printable_path_works(
    lab: Lab, undisturbed_dir: Path, tmp_path: Path, undisturbed: dict[str, str], name: str
) -> None:
    """`%` means something in the names of SLURM's log files, quotes and dollars in a shell."""
    small = continued(undisturbed_dir, tmp_path / name)
    at = small.run_dir / "iter_000"
    (at / "generate" / "shard-00001.manifest.json").unlink()
    (at / "generate" / "shard-00001.jsonl").unlink()
    (at / "merge.manifest.json").unlink()
    # What a login profile does to a job, which SLURM loads where variables are exported by name.
    small.profile["setup"] = [
        "echo 'Submitted batch job 1'; umask 077; set -eu; alias srun=false",
        "export PYTHONPATH=/nowhere PYTHONSTARTUP=/nowhere.py OMP_NUM_THREADS=7 TMPDIR=/missing LANG=xx",
        "export SQUEUE_FORMAT=%i SBATCH_PARTITION=nosuch SLURM_TIME_FORMAT=relative SRUN_DEBUG=1",
    ]
    small.launch()
    wait_until(lambda: (at / "merge.manifest.json").exists(), 600, "the shard and the merge")
    assert main(["cancel", str(small.run_dir)]) == 0
    assert small.results().items() <= undisturbed.items()
    logs = {path.name.split("-")[0] for path in (at / "logs").glob("*.log")}
    assert {"generate", "merge"} <= logs, sorted(at.parent.parent.parent.rglob("*.log"))
    assert {path.name for path in tmp_path.iterdir()} == {name}, "no folder beside it"


def test_a_site_whose_nodes_may_not_submit(lab: Lab, begun: Campaign, undisturbed: dict[str, str]) -> None:
    """A task fails, and what was submitted behind it ends by itself; cron calls the launcher, which submits it and the rest again."""
    begun.config["iterations"] = 2
    begun.profile["submit_from"] = "login"
    begun.profile["setup"] = ['case "$SLURM_JOB_NAME" in train-i0-*-a0-*) exit 1;; esac']
    said = begun.launch().stdout
    assert "--unattended" in said and "submitted iteration 1 ahead" in said
    before = {e["name"] for e in journal(begun)}
    lab.wait_empty(300)
    assert {e["name"] for e in journal(begun)} == before, "no job has submitted another"
    logs = begun.logs()
    assert (
        "iteration 1 has no plan yet" in logs and not (begun.run_dir / "iter_001" / "plan.json").exists()
    ), logs
    said = begun.launch("--unattended").stdout
    assert "submitted train of iteration 0" in said and "submitted iteration 1 ahead" in said, said
    lab.wait_empty(600)
    same_results(begun, undisturbed)
    assert "nothing to do" in begun.launch("--unattended").stdout


REFUSING_ON_NODES = """[ -z "$SLURM_JOB_ID" ] || { echo "sbatch: error: jobs are submitted from login nodes" >&2; exit 1; }
exec sbatch "$@" """


def test_the_doctor_finds_out_whether_nodes_may_submit(
    lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = campaign()
    small.write()
    doctor = ["doctor", "--profile", str(small.folder / "profile.yaml"), "--folder", str(small.folder)]
    main(doctor)
    assert "a node may call sbatch" in " ".join(capsys.readouterr().out.split())
    shim(small, monkeypatch, "sbatch", REFUSING_ON_NODES, test_only=True)
    assert main(doctor) != 0
    said = " ".join(capsys.readouterr().out.split())
    assert "jobs are submitted from login nodes" in said and "submit_from: login" in said
    assert "crontab -e" in said and "--unattended" in said
    small.profile["submit_from"] = "login"
    small.write()
    main(doctor)
    assert "not needed (submit_from: login)" in " ".join(capsys.readouterr().out.split())


def test_the_environment_of_another_job_and_of_a_module_does_not_leak(
    quiet_lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch inside of salloc (spd#955, biahub#96, snakemake#2230), with defaults of a module (aws-eda-slurm#223), at a site whose
    squeue prints notices, and which wants memory per CPU (f3dasm#352, canu#2350, dask-jobqueue#698)."""
    lab, small = quiet_lab, campaign()
    del small.profile["defaults"]["memory_gb"]
    small.profile["defaults"]["extra"] = {"mem-per-cpu": "300M"}
    shim(
        small,
        monkeypatch,
        "squeue",
        'echo "CLUSTER: lab"; squeue "$@"; echo "Notice: maintenance | on | Monday"',
    )
    for name, value in {
        "SBATCH_PARTITION": "nosuch", "SBATCH_TIMELIMIT": "1", "SBATCH_EXPORT": "ALL", "SBATCH_ARRAY_INX": "0-3",
        "SQUEUE_FORMAT": "%i", "SQUEUE_STATES": "RUNNING", "SLURM_TIME_FORMAT": "relative", "SBATCH_MEM_PER_NODE": "1G",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    command = small.command("--profile", str(small.folder / "profile.yaml"))
    done = subprocess.run(
        ["salloc", "-Q", "-p", "high", "-n2", "-c2", "--mem=500M", *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("SQUEUE_FORMAT", "SQUEUE_STATES"):
        monkeypatch.delenv(name)
    assert sorted(queued(lab, small)) == sorted(STAGES)
    for job in queued(lab, small).values():
        shown = lab.show(job)
        asked = shown["Partition"], shown["NumCPUs"], shown["MinMemoryCPU"], shown["TimeLimit"]
        assert asked == ("low", "1", "300M", "01:00:00")
    assert "nothing to submit" in small.launch().stdout
    (small.folder / "shim" / "squeue").unlink()


def test_an_advance_that_is_killed_starts_again_or_status_names_the_command(
    lab: Lab, undisturbed_dir: Path, tmp_path: Path
) -> None:
    """Nothing waits behind it. Killed for memory, then failing, it starts again twice; after that a person's command goes on."""
    small = before_advance(undisturbed_dir, tmp_path / "copy")
    killed, starts = tmp_path / "killed", tmp_path / "starts"
    killed.write_text(
        f'#!/bin/bash\necho ${{SLURM_RESTART_COUNT:-0}} >> {starts}\n[ "$SLURM_RESTART_COUNT" = 1 ] && exit 1\nkill -KILL $$\n'
    )
    killed.chmod(0o755)
    small.profile["restart_delay_s"] = 3
    small.profile["setup"] = [f"UNDO_PYTHON={killed}"]
    done = small.launch()
    assert "submitted advance" in done.stdout and "submitted train" not in done.stdout, done.stdout
    lab.wait_empty(600)
    assert starts.read_text().split() == ["0", "1", "2"]
    view = collect_status(open_run(small.run_dir))
    assert "run_iteration.py --run-dir" in view.next_command and str(small.run_dir) in view.next_command

    small.profile["setup"] = [f"[ ${{SLURM_RESTART_COUNT:-0}} -gt 0 ] || UNDO_PYTHON={killed}"]
    small.launch()  # killed once, and by itself behind it the next iteration
    wait_until(
        lambda: {e.get("stage") for e in journal(small) if e.get("iteration") == 1} >= set(STAGES),
        600,
        "the next iteration to be submitted",
    )
    assert main(["cancel", str(small.run_dir)]) == 0
