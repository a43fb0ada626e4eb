"""What lies where another user can write: no file of ours is read through a link of theirs, also one that is there for a moment. Other owners
need root."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.test_ownership import NOBODY, OTHER, as_root, give_by_list
from undo_hpc.config.schema import SourceConfig
from undo_hpc.data import load_problems
from undo_hpc.errors import ConfigError, StorageError
from undo_hpc.models.own_files import own_files
from undo_hpc.models.resolve import resolve_model
from undo_hpc.prompts import load_prompts
from undo_hpc.system import lent, ownership
from undo_hpc.system.lent import require_not_lent, undisturbed


@pytest.fixture(autouse=True)
def _nobody_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ownership.TRUST, raising=False)


def read_prompts(folder: Path) -> object:
    return load_prompts(str(folder))


def read_model(folder: Path) -> object:
    return resolve_model(str(folder))


def read_data(folder: Path) -> object:
    return load_problems(SourceConfig(path=str(folder / "train.jsonl")))


def load_model(folder: Path) -> None:
    with own_files(str(folder)):
        pass


@as_root
@pytest.mark.parametrize(
    ("read", "file"),
    [
        (read_prompts, "example.txt"),
        (read_model, "generation_config.json"),
        (read_model, "additional_chat_templates/other.jinja"),
        (read_data, "train.jsonl"),
    ],
)
def test_a_file_of_ours_is_not_read_through_another_users_link(
    tmp_path: Path, read: Callable[[Path], object], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague's prompts, model or data with a link to a key of ours: its text stood in the run's copy, or beside the student."""
    theirs, secret = tmp_path / "theirs", tmp_path / "secret" / Path(file).name
    (theirs / file).parent.mkdir(parents=True)
    secret.parent.mkdir()
    for name, text in {
        "problem.txt": "{{ problem }}",
        "config.json": "{}",
        "tokenizer.json": "{}",
        "model.safetensors": "w",
    }.items():
        (theirs / name).write_text(text)
    secret.write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    (theirs / file).symlink_to(secret)
    read(theirs)  # a link of our own
    os.chown(theirs / file, NOBODY, -1, follow_symlinks=False)
    with pytest.raises(ConfigError, match=f"{file} is a link of another user, {NOBODY}, to a file that they"):
        read(theirs)
    os.chown(secret, OTHER, -1)  # of a third user, who lets us read it
    with pytest.raises(ConfigError, match="may not read themselves"):
        read(theirs)
    os.chown(secret, NOBODY, -1)  # their own file
    read(theirs)
    os.chown(secret, 0, -1)
    monkeypatch.setenv(ownership.TRUST, str(NOBODY))
    read(theirs)


@as_root
def test_nor_through_a_link_in_place_of_a_folder_above_it(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.mkdir()
    (mine / "train.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    (theirs / "first").symlink_to("../theirs/second")
    (theirs / "second").symlink_to(mine)
    read_data(theirs / "first")
    os.chown(theirs / "second", NOBODY, -1, follow_symlinks=False)
    with pytest.raises(ConfigError, match=f"second is a link of another user, {NOBODY}, to a file"):
        read_data(theirs / "first")
    with pytest.raises(ConfigError, match="second is a link"):
        read_data(theirs / "f*")


@as_root
@pytest.mark.parametrize("how", ["user", "group", "mode"])
def test_who_is_shut_out_by_name_does_not_read_as_others_do(how: str) -> None:
    """acl(5): who is named by an entry, or is in a group of one, has no right of the others."""
    with tempfile.TemporaryDirectory(prefix="shared-") as name:
        shared, ours = Path(name), Path(name) / "ours.jsonl"
        shared.chmod(0o755)
        ours.write_text('{"problem": "1 + 1?", "answer": "2"}\n')
        (shared / "theirs").mkdir()
        (shared / "theirs/ours.jsonl").symlink_to(ours)
        user = pwd.getpwnam("daemon")
        os.chown(shared / "theirs/ours.jsonl", user.pw_uid, -1, follow_symlinks=False)
        ours.chmod(0o644)
        require_not_lent(shared / "theirs/ours.jsonl")
        if how == "mode":
            os.chown(ours, 0, user.pw_gid)
            ours.chmod(0o604)
        else:
            give_by_list(ours, (2, 0, user.pw_uid) if how == "user" else (8, 0, user.pw_gid))
            ours.chmod(0o604 | 0o070)
            os.chown(ours, 0, 0)
        with pytest.raises(ConfigError, match="may not read themselves"):
            require_not_lent(shared / "theirs/ours.jsonl")


@as_root
def test_a_model_in_a_cache_that_others_share_is_looked_at_as_a_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link of theirs in a snapshot to a key of ours: it stood beside the student."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    place = tmp_path / "hub/models--owner--model"
    snapshot = place / "snapshots" / ("a" * 40)
    for folder in (place / "refs", place / "blobs", snapshot):
        folder.mkdir(parents=True)
    (place / "refs/main").write_text("a" * 40)
    (place / "blobs/1").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/1")
    with own_files("owner/model"):
        pass
    (tmp_path / "key").write_text("{}")
    (tmp_path / "key").chmod(0o600)
    (snapshot / "generation_config.json").symlink_to(tmp_path / "key")
    os.chown(snapshot / "generation_config.json", NOBODY, -1, follow_symlinks=False)
    with (
        pytest.raises(ConfigError, match=r"generation_config\.json is a link of another user"),
        own_files("owner/model"),
    ):
        pass


@as_root
def test_a_look_makes_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On file systems without O_TMPFILE (NFS, Lustre) that changed the folder that was looked at, and nothing ever stood still."""
    file = theirs(tmp_path)
    for folder in (tmp_path / "above", file.parent):
        folder.chmod(0o2775)
    monkeypatch.setattr(tempfile, "_O_TMPFILE_WORKS", False)
    with undisturbed([file]):
        require_not_lent(file)


@as_root
def test_our_own_run_in_a_folder_of_the_groups_head_goes_on_meanwhile(tmp_path: Path) -> None:
    above = tmp_path / "runs"
    (above / "run/student").mkdir(parents=True)
    (above / "run/student/a.txt").touch()
    os.chown(above, NOBODY, -1)
    with undisturbed([above / "run/student/a.txt"]):
        (above / "run/iter_001").mkdir()
        (above / "another run").mkdir()
    with pytest.raises(StorageError, match="while it was read"), undisturbed([above / "run/student/a.txt"]):
        (above / "run").rename(above / "away")
        (above / "away").rename(above / "run")


@as_root
def test_a_sticky_folder_of_another_user_keeps_nobody_from_renaming(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    (drop / "ours/b").mkdir(parents=True)
    (drop / "ours/b/a.txt").touch()
    drop.chmod(0o1777)
    os.chown(drop, NOBODY, -1)
    with pytest.raises(StorageError, match="while it was read"), undisturbed([drop / "ours/b/a.txt"]):
        (drop / "ours").rename(drop / "away")
        (drop / "away").rename(drop / "ours")


@as_root
def test_links_of_others_to_what_they_may_read_are_as_good_as_files() -> None:
    """A cache of models that a group shares: one user's links to what another has fetched."""
    with tempfile.TemporaryDirectory(prefix="shared-") as name:  # pytest's own folder lets nobody in
        shared, blob = Path(name), Path(name) / "blob"
        shared.chmod(0o755)
        blob.write_text('{"problem": "1 + 1?", "answer": "2"}\n')
        (shared / "train.jsonl").symlink_to("blob")
        os.chown(shared / "train.jsonl", NOBODY, -1, follow_symlinks=False)
        blob.chmod(0o644)
        read_data(shared)
        blob.chmod(0o640)
        with pytest.raises(ConfigError, match="may not read themselves"):
            read_data(shared)
        give_by_list(blob, (2, 4, NOBODY))
        read_data(shared)
        shared.chmod(0o700)
        with pytest.raises(ConfigError, match="may not read themselves"):
            read_data(shared)


def swap(first: Path, second: Path) -> None:
    """Each in place of the other."""
    first.rename(between := first.with_name("between"))
    second.rename(first)
    between.rename(second)


def theirs(folder: Path) -> Path:
    """A folder of another user with a file, and a link of theirs to a file of ours beside it; and a folder above it."""
    for name in ("above/first", "above/second", "above/first/below", "above/second/below"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.txt").write_text("theirs")
    (folder / "secret").write_text("ours")
    (folder / "above/first/bad").symlink_to(folder / "secret")
    for path in (folder / "above", *(folder / "above").rglob("*")):
        os.chown(path, NOBODY, -1, follow_symlinks=False)
    return folder / "above/first/a.txt"


@as_root
@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a.txt", ("first/a.txt", "first/bad")),
        ("a.txt", ("first", "second")),
        ("below/a.txt", ("first", "second")),
    ],
)
def test_what_was_another_file_for_a_moment_is_not_believed(
    tmp_path: Path, name: str, names: tuple[str, str]
) -> None:
    """Looks before and behind the reading pass; a user who changed two names 20,000 times a second had a key of ours in a run's prompts."""
    file = theirs(tmp_path).parent / name
    first, second = (tmp_path / "above" / each for each in names)
    for hidden in (False, True):
        with pytest.raises(StorageError, match="while it was read"), undisturbed([file]):
            swap(first, second)
            swap(first, second)
            if hidden:  # as if somebody had only made another file there
                (first.parent / "x").touch()
                (first.parent / "x").unlink()
            if hidden and first.is_dir():
                (first / "x").touch()
                (first / "x").unlink()
                os.utime(first)
    with undisturbed([file]):
        assert file.read_text() == "theirs"


@as_root
def test_a_place_that_never_stands_still_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = theirs(tmp_path)
    monkeypatch.setattr("undo_hpc.system.lent.time.sleep", lambda _: swap(file, file.with_name("bad")))
    with pytest.raises(StorageError, match="while it was read"), undisturbed([file]):
        raise AssertionError("it was read")


@as_root
def test_what_appears_for_a_moment_in_an_empty_folder_is_seen(tmp_path: Path) -> None:
    """A link to a key of ours, laid and taken away while an empty folder of a model, or of a data set, was read."""
    folder = theirs(tmp_path).parent
    (empty := folder / "empty").mkdir()
    os.chown(empty, NOBODY, -1)
    with pytest.raises(StorageError, match="while it was read"), undisturbed([folder / "a.txt", empty]):
        (empty / "link").symlink_to("/etc/hostname")
        (empty / "link").unlink()


@as_root
def test_what_appears_for_a_moment_deep_in_a_model_is_seen(tmp_path: Path) -> None:
    """An index of weights may name files in any folder, and be another when the library reads it."""
    model = tmp_path / "model"
    (deep := model / "w/a/b").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (model / name).write_text("{}")
    for path in (model, *model.rglob("*")):
        os.chown(path, NOBODY, -1)
    with pytest.raises(StorageError, match="while it was read"), own_files(str(model)):
        (deep / "part.safetensors").symlink_to("/etc/hostname")
        (deep / "part.safetensors").unlink()


@as_root
def test_times_of_whole_seconds_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Lustre what comes and goes within the second of the first look leaves no mark."""
    file = theirs(tmp_path)
    look, waited = lent._standing, list[float]()
    coarse = lambda files: {  # noqa: E731
        at: each._replace(changed=each.changed // 10**9 * 10**9) for at, each in look(files).items()
    }
    monkeypatch.setattr(lent, "_standing", coarse)
    monkeypatch.setattr("undo_hpc.system.lent.time.sleep", waited.append)
    with undisturbed([file]):
        pass
    assert waited and waited[0] > 1.0


@as_root
def test_what_others_do_beside_it_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague fetches another model meanwhile. And nobody waits for what lies in folders of our own."""
    file = theirs(tmp_path)
    with undisturbed([file]):
        (tmp_path / "above/another").mkdir()
    mine = tmp_path / "mine"
    mine.mkdir()
    mine.chmod(0o2775)  # a group's folder is busy with its own work
    os.chown(mine, -1, NOBODY)
    (mine / "a.txt").touch()
    monkeypatch.setattr("undo_hpc.system.lent.time.sleep", lambda _: pytest.fail("it waited"))
    with undisturbed([mine / "a.txt"]):
        (mine / "a.txt").rename(mine / "b.txt")


@as_root
@pytest.mark.parametrize(
    ("read", "name", "module"),
    [
        (read_prompts, "problem.txt", "undo_hpc.prompts.prompt_set.require_no_stray_link"),
        (read_data, "train.jsonl", "undo_hpc.data.local._read_first"),
        (load_model, "config.json", "undo_hpc.models.own_files.require_not_lent"),
    ],
)
def test_who_reads_looks_at_it_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], name: str, module: str
) -> None:
    """Whoever reads something of another user's: a change between two looks is seen."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / name).write_text('{"problem": "{{ problem }}", "answer": "2"}\n')
    os.chown(folder, NOBODY, -1)
    place, called = module.rsplit(".", 1)
    before = getattr(__import__(place, fromlist=[called]), called)

    def meanwhile(*words: object) -> object:
        (folder / name).rename(folder / "away")
        (folder / "away").rename(folder / name)
        return before(*words)

    monkeypatch.setattr(module, meanwhile)
    with pytest.raises(StorageError, match="while it was read"):
        read(folder)
