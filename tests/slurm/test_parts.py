"""Parts alone on a cluster: a canary that is refused and then released, rationales with the bytes of a whole run on one machine, a
student, its evaluation; and what is done with such a run afterwards."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.conftest import STOCK
from tests.slurm.small import make_campaign
from tests.slurmlab import Lab
from tests.slurmlab.processes import wait_until
from undo_hpc.cli import main
from undo_hpc.control.planning import current_state
from undo_hpc.pipeline.run import open_run


def _archive(folder: Path) -> Path:
    """Packages of an environment that write down that they were imported."""
    packages = folder / "packages"
    packages.mkdir()
    (packages / "sitecustomize.py").write_text(f"open({str(folder / 'imported')!r}, 'w').close()\n")
    archive = folder / "packages.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(packages / "sitecustomize.py", "sitecustomize.py")
    return archive


def test_the_parts_one_after_another(
    start_lab: Callable[..., Lab],
    undisturbed: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lab = start_lab(**STOCK)

    def nothing_queued() -> bool:
        return not lab.run("squeue", "-h", "--me").strip()

    canary = {
        "problems": 6,
        "min_right": 0.0,
        "max_cut_off": 1.0,
        "min_encoded": 0.0,
        "min_tokens_per_second": 1e9,
    }
    small = make_campaign(tmp_path / "small", generate__canary=canary, train__epochs=1)
    small.profile |= {"stage_to": str(tmp_path / "local"), "stage_archive": str(_archive(tmp_path))}
    small.write()
    place = ["--profile", str(tmp_path / "small" / "profile.yaml")]
    words = ["--config", str(tmp_path / "small" / "config.yaml"), "--run-dir", str(small.run_dir), *place]

    assert main(["generate", *words]) == 0
    assert "6 of 42 problems" in capsys.readouterr().out
    wait_until(lambda: [e for e in small.events("release") if e["kind"] == "end"], 300, "the release to end")
    wait_until(nothing_queued, 120, "its job to be gone")
    assert small.events("release")[-1]["code"] == 2 and not small.events("generate")
    assert main(["status", str(small.run_dir)]) == 0
    assert "min_tokens_per_second" in "".join(capsys.readouterr().out.split())
    assert main(["show", str(small.run_dir), "--stage", "canary", "-n", "1"]) == 0
    assert main(["generate", *words, "--set", "generate.canary.min_tokens_per_second=0"]) == 0
    small.wait_ended()
    logs = [path.read_text() for path in (small.run_dir / "iter_000" / "logs").glob("*.log")]
    assert len(logs) > 3 and sum(text.count(" unpacked ") for text in logs) == 1, "once a node"
    assert (tmp_path / "imported").exists() and not any("nothing can be staged" in text for text in logs)
    made = small.results()
    wanted = {
        name: digest
        for name, digest in undisturbed.items()
        if name.startswith(("iter_000/generate", "iter_000/distilled"))
    }
    assert {name: digest for name, digest in made.items() if "feedback" not in name} == wanted and len(
        wanted
    ) == 3

    wait_until(nothing_queued, 120, "its last job to be gone")
    (small.run_dir / "iter_000" / "advance.manifest.json").rename(
        tmp_path / "seen"
    )  # wait_ended looks for it
    assert main(["run", *words, "--until", "train", "--set", "generate.canary.min_tokens_per_second=0"]) == 0
    small.wait_ended()
    assert {name: made[name] for name in wanted} == {name: small.results()[name] for name in wanted}
    student, asked = small.run_dir / "iter_000" / "student", tmp_path / "asked"
    sets = ["--set", "student.prompt=tiny", "--set", "evaluate.sampling.max_new_tokens=16"]
    assert (
        main(
            [
                "evaluate",
                str(student),
                "--benchmarks",
                "tiny",
                "--limit",
                "4",
                "--run-dir",
                str(asked),
                *place,
                *sets,
            ]
        )
        == 0
    )
    wait_until((asked / "iter_000" / "advance.manifest.json").exists, 300, "the evaluation to end")
    assert json.loads((asked / "iter_000" / "metrics.json").read_text())["baseline"]["tiny"]["n"] == 4

    wait_until(nothing_queued, 120, "the last jobs to be gone")
    capsys.readouterr()
    assert main(["show", str(small.run_dir), "--stage", "merge", "-n", "1"]) == 0
    assert main(["export", str(small.run_dir), "--format", "trl"]) == 0
    new = tmp_path / "new"
    assert main(["fork", str(small.run_dir), str(new), "--set", "train.learning_rate=1e-4"]) == 0
    assert "taken over generate (2 tasks), merge (1 task)" in capsys.readouterr().out
    assert [status.stage for status in current_state(open_run(new)).missing] == ["train", "advance"]
    assert main(["prune", str(small.run_dir), "--keep", "best"]) == 0
    assert student.exists(), "the only student is the best one"
