"""Evidence that was damaged from outside: the same command, without the profile's path, makes it again on the cluster, or names what is lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.conftest import same_results
from tests.slurm.small import Campaign, make_campaign
from tests.slurmlab import Lab
from undo_hpc.cli import main
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import open_run

Damage = Callable[[Path], None]


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(512))


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def launched(done: Path, folder: Path) -> Campaign:
    """A copy of a finished run, as if it had been made on this cluster: its profile's file is gone."""
    small = make_campaign(folder, iterations=2)
    shutil.copytree(done / "run", small.run_dir)
    small.launch("--set", "cluster.check_shared=false")  # freezes the profile
    return small


def test_damage_in_the_last_iteration_is_made_again(
    lab: Lab, undisturbed_dir: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    small = launched(undisturbed_dir, tmp_path / "copy")
    last = small.run_dir / "iter_001"
    zeroed(last / "train.manifest.json")
    torn(last / "generate" / "shard-00000.manifest.json")
    flipped(last / "metrics.json")
    small.launch(without_profile=True)
    lab.wait_empty(1000)
    assert small.ended, small.logs()
    same_results(small, undisturbed)
    assert "nothing to do" in small.launch(without_profile=True).stdout


def test_results_of_an_earlier_iteration_are_named_when_they_are_damaged(
    lab: Lab, undisturbed_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The chosen student and the distilled sets are what the run leaves behind, and what push would publish: one bit is noticed."""
    small = launched(undisturbed_dir, tmp_path / "copy")
    assert collect_status(open_run(small.run_dir)).best_iteration == 0
    at = small.run_dir / "iter_000"
    parquet = next((at / "distilled").glob("*.parquet"))
    emptied: Damage = lambda path: path.write_bytes(b"")  # noqa: E731
    cases: list[tuple[Path, Damage, str]] = [
        (parquet, flipped, "--dataset-repo"),
        (at / "student" / "model.safetensors", flipped, "--model-repo"),
        (parquet, emptied, "--dataset-repo"),
        (at / "student" / "model.safetensors", Path.unlink, "--model-repo"),
    ]
    for path, damage, kind in cases:
        kept, name = path.read_bytes(), str(path.relative_to(small.run_dir))
        damage(path)
        done = small.launch(check=False, without_profile=True)
        assert done.returncode == 2 and "nothing to do" not in done.stdout, done.stdout
        assert name in done.stderr and f"move {at} and all later iterations away" in done.stderr, done.stderr
        assert main(["push", str(small.run_dir), kind, "me/mine", "--dry-run"]) == 3
        said = capsys.readouterr().err
        assert name in said and "nothing was published" in said and "run_iteration.py --run-dir" in said, said
        path.write_bytes(kept)
    assert "nothing to do" in small.launch(without_profile=True).stdout
    assert not lab.jobs()
