"""The doctor: what it finds on machines of all kinds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from undo_hpc.cli import main
from undo_hpc.config.load import load_config, override
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.checks import Finding
from undo_hpc.control.checks.sources import hub_sources
from undo_hpc.doctor import checkup
from undo_hpc.doctor.hub import check_cache, check_token, hub_models
from undo_hpc.doctor.machine import check_file_system, check_gpu, existing, mount_of, needed_bytes, size
from undo_hpc.doctor.packages import check_versions, conflicts, fits, installed
from undo_hpc.doctor.scheduler import check_slurm


def one(findings: list[Finding], what: str) -> Finding:
    return next(f for f in findings if f.what == what)


def program(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def test_this_environment_is_fit_for_the_tiny_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))  # whatever GPU or SLURM the test machine has
    findings = list(checkup(load_config("tiny", []), tmp_path))
    assert [f for f in findings if f.level == "error"] == []
    assert "torch" in one(findings, "packages").detail and "free" in one(findings, "free space").detail


def test_a_package_that_is_missing_or_of_a_wrong_version_is_named() -> None:
    found = installed()
    lacking = {name: version for name, version in found.items() if name != "submitit"} | {"rich": "9.0"}
    findings = list(check_versions(lacking))
    assert "submitit" in findings[0].detail and findings[0].level == "error"
    assert "rich 9.0 (needs" in findings[1].detail


def test_versions_that_do_not_go_together() -> None:
    found = installed() | {"torch": "1.0"}
    assert any("asks for torch" in text and "installed is 1.0" in text for text in conflicts(found))


@pytest.mark.parametrize(("need", "version", "right"), [
    ("torch>=2.13,<2.14", "2.13.0+cpu", True), ("torch==2.13.0+cpu", "2.13.0+cpu", True), ("torch<2.13", "2.13.0+cu130", False),
    ("x>=1", "not-a-version", True)])  # fmt: skip
def test_what_fits(need: str, version: str, right: bool) -> None:
    assert fits(Requirement(need), version) is right


def test_gpus_are_asked_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert "none on this machine" in next(check_gpu()).detail
    program(
        tmp_path / "bin",
        "nvidia-smi",
        "echo 'NVIDIA H100, 81559 MiB, 580.1'; echo 'NVIDIA H100, 81559 MiB, 580.1'",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    assert "2 x NVIDIA H100" in next(check_gpu()).detail
    program(tmp_path / "bin", "nvidia-smi", "echo 'No devices were found'; exit 6")
    assert next(check_gpu()).level == "warning"


def test_a_cluster_run_without_slurm_is_an_error_and_a_local_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert next(check_slurm(wanted=True)).level == "error"
    assert next(check_slurm(wanted=False)).level == "ok"


def test_a_slurm_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_dir = tmp_path / "bin"
    for name in ("sbatch", "squeue", "scancel"):
        program(bin_dir, name, "true")
    program(bin_dir, "scontrol", "printf 'MaxArraySize = 4001\\nKillWait = 30 sec\\nJobRequeue = 0\\n'")
    program(
        bin_dir,
        "sinfo",
        'case "$1" in --version) echo "slurm 24.05";; *) echo "gpu* up 2-00:00:00 12 gpu:h100:4"; echo "old down 1:00 3 (null)";; esac',
    )
    monkeypatch.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
    findings = list(check_slurm(wanted=True, profile=str(tmp_path / "none.yaml")))
    assert "slurm 24.05; arrays below 4001" in findings[0].detail
    assert "requeue: false" in findings[1].hint
    assert (
        one(findings, "partitions").detail.startswith("gpu*")
        and "old" not in one(findings, "partitions").detail
    )
    assert one(findings, "profile").level == "error"


def test_the_file_system(tmp_path: Path) -> None:
    point, kind = mount_of(tmp_path)
    assert point and kind and str(tmp_path).startswith(point)
    assert existing(tmp_path / "a" / "b") == tmp_path
    assert next(check_file_system(tmp_path / "new", cluster=False)).level == "ok"
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"
    if os.geteuid():
        tmp_path.chmod(0o500)
        assert next(check_file_system(tmp_path, cluster=False)).level == "error"


def test_local_data_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n{"question": "2 + 2?", "answer": ""}\n')
    sets = [
        f"data.train.path={path}",
        "data.train.tiny=''",
        "data.train.sample=null",
        "data.validation=0",
        "data.diagnosis=0",
        "data.train.fields.problem=question",
        "data.train.fields.answer=answer",
    ]
    found = one(list(checkup(load_config("tiny", sets), tmp_path)), "data")
    assert found.level == "warning" and "1 problem, 1 row not used" in found.detail
    found = one(
        list(checkup(load_config("tiny", [*sets, "data.train.fields.problem=quest"]), tmp_path)), "data"
    )
    assert found.level == "error" and "'quest'" in found.detail and "question" in found.hint


def test_space_grows_with_what_is_asked() -> None:
    small = RunConfig()
    large = override(small, ["iterations=6", "data.train.sample=100000"])
    assert (
        needed_bytes(large, 3 * 10**9)[0] > needed_bytes(small, 3 * 10**9)[0] > needed_bytes(small, None)[0]
    )
    assert "not counted" in needed_bytes(small, None)[1]
    assert (size(999), size(1_500_000), size(2.5e12)) == ("999 B", "2 MB", "2.5 TB")


def test_what_comes_from_the_hub(tmp_path: Path) -> None:
    config = override(RunConfig(), ["teacher.model=org/teacher", f"student.model={tmp_path}", "data.train.hub=org/data",
                                    "evaluate.benchmarks=[gsm8k, tiny]", "evaluate.overrides.gsm8k.path=local.jsonl"])  # fmt: skip
    assert hub_models(config) == {"org/teacher": ""}
    assert [s.hub for s in hub_sources(config)] == ["org/data"]
    other = override(
        config,
        [
            "evaluate.overrides.gsm8k={hub: org/gsm}",
            "generate.engine={name: openai, openai: {base_url: 'http://x/v1'}}",
        ],
    )
    assert [(s.hub, s.split) for s in hub_sources(other)] == [("org/data", "train"), ("org/gsm", "test")], (
        "what a run would read"
    )
    assert hub_models(other) == {}, "a server of others holds its own model"
    findings = list(check_cache(config, cluster=False))
    assert any("org/teacher is not in the cache" in f.detail and "--prefetch" in f.hint for f in findings)


def test_a_token_is_never_shown_and_a_file_that_others_may_read_is_named(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hf_secret")
    token.chmod(0o644)
    config = override(RunConfig(), ["hub.dataset_repo=me/x", f"hub.token_file={token}"])
    (finding,) = check_token(config)
    assert finding.level == "warning" and "chmod 600" in finding.hint and "hf_secret" not in str(finding)
    token.chmod(0o600)
    assert next(check_token(config)).level == "ok"


def test_the_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert main(["doctor", "--folder", str(tmp_path), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {"Python", "packages", "SLURM", "run directories"} <= {f["what"] for f in findings}
    assert (
        main(
            [
                "doctor",
                "--config",
                "tiny",
                "--set",
                "student.model=/no/such/folder",
                "--folder",
                str(tmp_path),
            ]
        )
        == 1
    )
    assert " error" in capsys.readouterr().out
    assert main(["doctor", "--prefetch"]) == 2
