"""A manifest validates outputs: missing, shortened or changed files are found."""

from dataclasses import replace
from pathlib import Path

import pytest

from undo_hpc.errors import EvidenceError
from undo_hpc.storage.atomic import read_json, write_json
from undo_hpc.storage.manifest import (
    DamagedManifest,
    Manifest,
    describe_output,
    read_manifest,
    verify_outputs,
    write_manifest,
)


def make(tmp_path: Path) -> Manifest:
    (tmp_path / "out.txt").write_text("rows")
    return Manifest("generate", 0, 0, {}, {"out.txt": describe_output(tmp_path / "out.txt", 1)})


def test_round_trip_and_digest_of_content_alone(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    write_manifest(tmp_path / "m.json", manifest)
    again = read_manifest(tmp_path / "m.json")
    assert again == manifest
    later = Manifest("generate", 0, 0, {}, manifest.outputs, started=5, finished=9)
    assert later.digest == manifest.digest


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    assert verify_outputs(tmp_path, manifest, deep=True) == ""
    (tmp_path / "out.txt").write_text("rowz")
    assert verify_outputs(tmp_path, manifest, deep=False) == ""
    assert "has changed" in verify_outputs(tmp_path, manifest, deep=True)
    (tmp_path / "out.txt").write_text("row")
    assert "has 3 bytes" in verify_outputs(tmp_path, manifest, deep=False)
    (tmp_path / "out.txt").unlink()
    assert "is missing" in verify_outputs(tmp_path, manifest, deep=False)


def test_a_damaged_manifest_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(b"\0" * 50)
    with pytest.raises(EvidenceError, match=r"m.json is not valid JSON.*\n.*its task is done again"):
        read_manifest(tmp_path / "m.json")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.json", make(tmp_path))
    write_json(tmp_path / "m.json", read_json(tmp_path / "m.json") | {"schema_version": 99})
    with pytest.raises(EvidenceError, match="schema version 99"):
        read_manifest(tmp_path / "m.json")


LEAVES = [("counts", "rows"), ("details", "checker"), ("started",), ("finished",), ("inputs", "targets"), ("outputs", "out.txt", "rows")]  # fmt: skip


@pytest.mark.parametrize("path", LEAVES)
@pytest.mark.parametrize("to", [8, "7", None, [], "\x1b[2J"])
def test_a_value_that_changed_since_is_not_believed(
    tmp_path: Path, path: tuple[str, ...], to: object
) -> None:
    """A flipped bit in a count would be a wrong figure without a word, and another type an error of who adds it up."""
    made = replace(make(tmp_path), counts={"rows": 7}, details={"checker": "2"}, inputs={"targets": "ab"})
    write_manifest(tmp_path / "m.json", made)
    assert read_manifest(tmp_path / "m.json") == made
    data = read_json(tmp_path / "m.json")
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    write_json(tmp_path / "m.json", data)
    with pytest.raises(DamagedManifest):
        read_manifest(tmp_path / "m.json")


def test_a_manifest_without_a_seal_is_read(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.json", make(tmp_path))
    data = read_json(tmp_path / "m.json")
    del data["details"]["seal"]
    write_json(tmp_path / "m.json", data)
    assert read_manifest(tmp_path / "m.json") == make(tmp_path)
    for key in ("started", "finished", "iteration"):  # by one who takes the seal off
        write_json(tmp_path / "m.json", data | {key: "1e999"})
        with pytest.raises(DamagedManifest):
            read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize("name", ["../victim", "iter_000/student/../../../victim", "/etc/hostname", "a\0b"])
def test_no_manifest_names_a_file_outside_of_its_run(tmp_path: Path, name: str) -> None:
    write_manifest(tmp_path / "m.json", make(tmp_path))
    data = read_json(tmp_path / "m.json")
    write_json(tmp_path / "m.json", data | {"outputs": {name: data["outputs"]["out.txt"]}})
    with pytest.raises(EvidenceError, match="outside of the run"):
        read_manifest(tmp_path / "m.json")


def test_a_link_that_leads_out_of_the_run_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    manifest = make(tmp_path)
    (tmp_path / "run" / "out.txt").symlink_to(tmp_path / "out.txt")
    assert "leads out of the run" in verify_outputs(tmp_path / "run", manifest, deep=True)
