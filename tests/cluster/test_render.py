"""What a job looks like: golden batch files, and shell that parses. `UNDO_GOLDEN=1` writes the golden files again."""

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import REPO
from undo_hpc.cluster.base import Submission
from undo_hpc.cluster.names import ArrayPart, JobName
from undo_hpc.cluster.profile import ContainerProfile, Profile, StageProfile, load_profile
from undo_hpc.cluster.render import PRELUDE, render
from undo_hpc.config.schema import StageResources
from undo_hpc.errors import ConfigError

GOLDEN = Path(__file__).with_name("golden")
GENERATE = Submission(
    Path("/runs/my run"), 1, "generate", tuple(range(8)), StageResources(), tag="0123abcd", total=8
)
NAME = JobName("generate", 1, "0123abcd", 0, 0, 1, "deadbeef")
TRAIN = replace(GENERATE, stage="train", indices=None, after=("41", "42"), total=1)


def batch_file(profile: Profile, submission: Submission, part: ArrayPart | None) -> str:
    from submitit.slurm.slurm import _make_sbatch_string

    text = render(
        profile,
        submission,
        replace(NAME, stage=submission.stage),
        part,
        Path("/runs/my run/code/abc"),
        kill_wait_s=30,
    )
    return _make_sbatch_string(command=text.command, folder="/runs/x", **text.parameters)


CASES = {
    "generate_example": (
        load_profile(REPO / "slurm" / "profiles" / "example.yaml"),
        GENERATE,
        ArrayPart(tuple(range(8)), 0, 1),
    ),
    "train_example": (load_profile(REPO / "slurm" / "profiles" / "example.yaml"), TRAIN, None),
    "merge_lab": (
        load_profile(REPO / "slurm" / "profiles" / "lab.yaml"),
        replace(TRAIN, stage="merge"),
        None,
    ),
    "generate_two_nodes": (
        Profile(
            python="/p/python",
            stages={"generate": StageProfile(nodes=2, gpus_per_node=8, cpus_per_task=32, memory_gb=900)},
        ),
        GENERATE,
        ArrayPart(tuple(range(8)), 0, 1),
    ),
    "generate_pyxis": (
        Profile(
            python="/p/python",
            container=ContainerProfile(kind="pyxis", image="/img/undo image.sqsh", mounts=["/data:/data"]),
        ),
        GENERATE,
        ArrayPart((0, 3, 4), 1000, 2),
    ),
    "train_apptainer": (
        Profile(
            python="/p/python",
            requeue=False,
            gpu_syntax="gpus-per-node",
            gpu_type="a100",
            defaults=StageProfile(
                gpus_per_node=2, tasks_per_node=2, nodes=2, extra={"exclude": "n[1-2]", "exclusive": True}
            ),
            container=ContainerProfile(kind="apptainer", image="/img/undo.sif", options=["--no-home"]),
        ),
        TRAIN,
        None,
    ),
}


@pytest.mark.parametrize(
    ("profile", "asked", "words"),
    [
        ({}, {}, "--gres=gpu:4"),
        ({"gpu_type": "a100"}, {}, "--gres=gpu:a100:4"),
        ({"gpu_type": "nvidia_a100_1g.10gb"}, {"gpus_per_node": 1}, "--gres=gpu:nvidia_a100_1g.10gb:1"),
        ({"gpu_syntax": "gpus-per-node"}, {}, "--gpus-per-node=4"),
        ({"gpu_syntax": "gpus-per-node", "gpu_type": "h100"}, {"exclusive": True}, "--exclusive --gpus-per-node=h100:4"),
        ({"gpu_syntax": "gpus-per-task"}, {"tasks_per_node": 4}, "--gpus-per-task=1"),
        ({"gpu_syntax": "gpus-per-task", "gpu_type": "a100"}, {"tasks_per_node": 2}, "--gpus-per-task=a100:2"),
        ({"gpu_syntax": "none"}, {"exclusive": True}, "--exclusive"),
    ],
)  # fmt: skip
def test_gpus_as_sites_want_to_be_asked(
    profile: dict[str, object], asked: dict[str, object], words: str
) -> None:
    stages = {"train": StageProfile(**{"gpus_per_node": 4} | asked)}
    text = batch_file(Profile(stages=stages, **profile), TRAIN, None)
    lines = re.findall(r"^#SBATCH (--(?:g[a-z-]+|exclusive).*)$", text, re.MULTILINE)
    assert " ".join(sorted(lines)) == words


def test_gpus_that_cannot_be_shared_evenly_are_refused() -> None:
    stages = {"train": StageProfile(gpus_per_node=4, tasks_per_node=3)}
    with pytest.raises(ConfigError, match="4 GPUs cannot be shared evenly among 3 tasks"):
        batch_file(Profile(stages=stages, gpu_syntax="gpus-per-task"), TRAIN, None)


@pytest.mark.parametrize("case", CASES)
def test_batch_files_stay_as_they_were_reviewed(case: str) -> None:
    profile, submission, part = CASES[case]
    text = batch_file(profile.model_copy(update={"python": "/p/python"}), submission, part)
    shown = text.replace(PRELUDE.read_text().rstrip("\n"), "# (prelude.sh stands here)")
    assert shown != text
    file = GOLDEN / f"{case}.sbatch"
    if os.environ.get("UNDO_GOLDEN") == "1":
        file.parent.mkdir(exist_ok=True)
        file.write_text(shown)
    assert shown == file.read_text()
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


@pytest.mark.parametrize("path", sorted((REPO / "slurm").glob("*.s*")), ids=lambda p: p.name)
def test_templates_are_valid_shell(path: Path) -> None:
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0


@pytest.mark.parametrize("path", sorted((REPO / "slurm").glob("*.sbatch")), ids=lambda p: p.name)
def test_a_template_takes_no_prelude_of_a_folder_for_everybody(path: Path, tmp_path: Path) -> None:
    (job := tmp_path / "job").write_text(path.read_text())  # where SLURM keeps it
    (scratch := tmp_path / "scratch").mkdir()
    (scratch / "slurm").mkdir()
    (scratch / "slurm" / "prelude.sh").write_text("echo planted; exit 0")
    scratch.chmod(0o1777)
    environment = {"PATH": os.environ["PATH"], "SLURM_SUBMIT_DIR": str(scratch), "SLURM_JOB_ID": "1"}
    command = ["bash", str(job), "run", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "every user can write" in done.stdout and "planted" not in done.stdout
    for folder, more in ((0o755, {}), (0o1777, {"UNDO_HOME": str(scratch)})):
        scratch.chmod(folder)
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True)
        assert done.returncode == 0 and "planted" in done.stdout


def test_there_is_a_template_for_each_stage_and_all_share_the_prelude() -> None:
    for stage in ("serve", "generate", "baseline", "merge", "train", "evaluate", "advance"):
        text = (REPO / "slurm" / f"{stage}.sbatch").read_text()
        assert f"undo_task {stage} " in text and "slurm/prelude.sh" in text
        assert re.search(r"^#SBATCH --export=.*,UNDO_TRUST$", text, re.MULTILINE), "a colleague's run"
    assert (REPO / "slurm" / "prelude.sh").resolve() == PRELUDE.resolve()


def test_resubmitting_stages_run_in_any_case_and_the_others_only_on_success() -> None:
    assert "--dependency=afterok:41:42" in batch_file(Profile(), TRAIN, None)
    assert "--kill-on-invalid-dep=yes" in batch_file(Profile(), TRAIN, None)
    merge = batch_file(Profile(), replace(TRAIN, stage="merge"), None)
    assert "--dependency=afterany:41:42" in merge and "kill-on-invalid-dep" not in merge


def test_resubmitting_stages_stay_outside_of_the_container_where_sbatch_is() -> None:
    for kind in ("pyxis", "apptainer"):
        profile = Profile(python="/p/python", container=ContainerProfile(kind=kind, image="/img/undo.sif"))
        assert "/img/undo.sif" in batch_file(profile, TRAIN, None)
        for stage in ("merge", "advance"):
            text = batch_file(profile, replace(TRAIN, stage=stage), None)
            assert "/img/undo.sif" not in text and "UNDO_PYTHON=/p/python" in text


def test_only_names_of_variables_reach_sbatch() -> None:
    text = batch_file(Profile(export=["MY_DATA"]), GENERATE, ArrayPart((0,), 0, 1))
    line = next(line for line in text.splitlines() if "--export" in line and line.startswith("#SBATCH"))
    assert "MY_DATA" in line and line.count("=") == 1
