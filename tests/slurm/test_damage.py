"""Evidence that was damaged from outside: the same command, without the profile's path, makes it again on the cluster, or names what is lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.slurm.conftest import same_results
from tests.slurm.small import Campaign, make_campaign
from tests.slurmlab import Lab

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
    lab.wait_empty(600)
    assert small.ended, small.logs()
    same_results(small, undisturbed)
    assert "nothing to do" in small.launch(without_profile=True).stdout


def test_results_that_the_run_rests_on_are_named_when_they_are_gone(
    lab: Lab, undisturbed_dir: Path, tmp_path: Path
) -> None:
    small = launched(undisturbed_dir, tmp_path / "copy")
    parquet = next((small.run_dir / "iter_000" / "distilled").glob("*.parquet"))
    kept = parquet.read_bytes()
    for damage in (flipped, lambda path: path.write_bytes(b""), Path.unlink):
        damage(parquet)
        done = small.launch(check=False, without_profile=True)
        assert done.returncode != 0 and "distilled" in done.stderr and "nothing to do" not in done.stdout, (
            done.stderr
        )
        parquet.write_bytes(kept)
    assert "nothing to do" in small.launch(without_profile=True).stdout
    assert not lab.jobs()
