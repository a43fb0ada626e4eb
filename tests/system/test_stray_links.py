"""Links in folders that were cloned or unpacked, which are ours, whoever chose their ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.test_lent import load_model, read_prompts
from undo_hpc.errors import ConfigError
from undo_hpc.system.lent import stray_link


@pytest.mark.parametrize(
    ("read", "name"),
    [(read_prompts, "example.txt"), (load_model, "model.safetensors"), (load_model, "extra.json")],
)
def test_a_clone_brings_no_link_to_a_file_of_ours(
    tmp_path: Path, read: Callable[[Path], object], name: str
) -> None:
    """Such a link is ours, whoever chose its end: private rows were taught, and private weights published as the student."""
    clone, ours = tmp_path / "repository/clone", tmp_path / "private"
    clone.mkdir(parents=True)
    ours.mkdir()
    row = '{"problem": "1 + 1?", "answer": "2"}\n'
    for file, text in {"problem.txt": "{{ problem }}", "config.json": "{}", "a.jsonl": row}.items():
        (clone / file).write_text(text)
    for end in ("exam.jsonl", name):
        (ours / end).write_text(row.replace("1 +", "2 +"))
    (clone / name).symlink_to(ours / "exam.jsonl")
    with pytest.raises(ConfigError, match="is a link to a file outside of the"):
        read(clone)
    store = tmp_path / "repository/.git/annex/objects/aB/cD"
    stored = [store / key / key for key in (f"MD5E-s9--{'0cc1' * 8}.jsonl", "URL--https&c%%a%b.jsonl")]
    stored += [tmp_path / "hub/models--a--b/blobs/0x8DC-12"]  # a mirror's
    for file in stored:
        file.parent.mkdir(parents=True)
        file.write_text(row.replace("1 +", "3 +"))
    for honest in (ours / name, *stored):
        (clone / name).unlink()
        (clone / name).symlink_to(honest)
        read(clone)


@pytest.mark.parametrize("how", ["a chain", "a chain of folders", "its store", "its cache"])
def test_a_clone_leads_out_in_several_steps_to_no_file_of_ours(tmp_path: Path, how: str) -> None:
    """Each link by itself looks like one that people lay: within the folder, to a file of the same name, or into a store."""
    clone, key = tmp_path / "clone/snapshots/main", tmp_path / "home/keys/id_rsa"
    for folder in (clone / "inner", key.parent):
        folder.mkdir(parents=True)
    key.write_text("key")
    file = clone / "history.txt"
    if how == "a chain":
        (clone / "inner/id_rsa").symlink_to(key)
        file.symlink_to("inner/id_rsa")
    elif how == "a chain of folders":
        (clone / "inner/keys").symlink_to(key.parent)
        file.symlink_to("inner/keys/id_rsa")
    else:
        store = clone / ".dvc/cache" if how == "its store" else clone.parents[1] / "blobs"
        store.parent.mkdir(parents=True, exist_ok=True)
        store.symlink_to(key.parent)
        file.symlink_to(store / "id_rsa")
    found = stray_link(file, clone)
    assert found is not None and found[1] == key
