"""Who else may write where programs are read from. Other owners and groups need root; modes are tried by everybody."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from undo_hpc.campaign.definition import find_campaign, load_campaign
from undo_hpc.cluster.profile import load_profile
from undo_hpc.config.load import find_config, from_sets, load_config
from undo_hpc.config.schema import SourceConfig
from undo_hpc.data import load_problems
from undo_hpc.data.benchmarks import load_benchmark
from undo_hpc.errors import ConfigError
from undo_hpc.system import ownership
from undo_hpc.system.guard import guard

NOBODY = 54321  # a user and group that no system has
OTHER = 54322  # another
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture(autouse=True)
def _nobody_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ownership.TRUST, raising=False)


@pytest.fixture
def umask() -> object:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o2777, 0o702])
def test_a_folder_for_everybody_is_refused(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ownership.require_trusted(tmp_path / "not there", "the run")
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match="every user of this machine can write") as found:
        ownership.require_trusted(tmp_path, "the run")
    assert "chmod -R o-w" in (found.value.hint or "")
    monkeypatch.setenv(ownership.TRUST, "somebody, *")
    ownership.require_trusted(tmp_path, "the run")


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o700, 0o2775])
def test_own_folders_are_trusted(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    ownership.require_trusted(tmp_path, "the run")


@as_root
def test_another_users_folder_and_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run" / "config.resolved.json"
    file.parent.mkdir()
    file.touch()
    ownership.require_own_file(file, "the configuration")
    os.chown(file, NOBODY, -1)
    with pytest.raises(ConfigError, match=f"belongs to another user, {NOBODY}"):
        ownership.require_own_file(file, "the configuration")
    os.chown(file.parent, NOBODY, -1)
    with pytest.raises(ConfigError, match=f"export {ownership.TRUST}={NOBODY}"):
        ownership.require_trusted(file.parent, "the run")
    monkeypatch.setenv(ownership.TRUST, f"other,{NOBODY}")
    ownership.require_trusted(file.parent, "the run")
    ownership.require_own_file(file, "the configuration")


@as_root
def test_another_users_link_in_place_of_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "report"
    link.symlink_to("/home")
    ownership.require_no_planted_links([tmp_path, tmp_path / "not there"])  # our own
    os.chown(link, NOBODY, -1, follow_symlinks=False)
    with pytest.raises(ConfigError, match=f"report is a link of another user, {NOBODY}, to /home"):
        ownership.require_no_planted_links([tmp_path / "not there", tmp_path])
    monkeypatch.setenv(ownership.TRUST, str(NOBODY))
    ownership.require_no_planted_links([tmp_path])


def test_a_file_system_that_gives_all_files_to_one_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a new file of ours has the same owner as the folder."""
    monkeypatch.setattr(ownership.os, "geteuid", lambda: NOBODY)
    ownership.require_trusted(tmp_path, "the run")


def test_a_group_is_told(tmp_path: Path, umask: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_is_private", lambda group: False)
    folder = tmp_path / "run"
    assert ownership.others_who_write(folder) == []
    os.umask(0o002)
    [said] = ownership.others_who_write(folder)  # as it will be made
    folder.mkdir()
    assert ownership.others_who_write(folder) == [said] and "chmod -R g-w" in said
    monkeypatch.setenv(ownership.TRUST, "@" + ownership._group(folder.stat().st_gid))
    assert ownership.others_who_write(folder) == []
    monkeypatch.delenv(ownership.TRUST)
    folder.chmod(0o750)
    assert ownership.others_who_write(folder) == []


@as_root
def test_the_group_of_a_setgid_folder(tmp_path: Path, umask: object) -> None:
    os.chown(tmp_path, -1, NOBODY)
    tmp_path.chmod(0o2775)
    os.umask(0o002)
    [said] = ownership.others_who_write(tmp_path / "run")
    assert f"group {NOBODY} " in said


def give_by_list(path: Path, *entries: tuple[int, int, int], of: str = "access") -> None:
    """An access control list (setfacl may not be installed): a tag, rights and the number of a user or group each."""
    listed = [(1, 7, -1), *entries, (4, 5, -1), (16, 7, -1), (32, 0, -1)]  # owner, owning group, mask, others
    data = b"".join(struct.pack("<HHi", *entry) for entry in sorted(listed))
    try:
        os.setxattr(path, f"system.posix_acl_{of}", struct.pack("<I", 2) + data)
    except OSError as error:
        pytest.skip(f"this file system has no access control lists ({error})")


def test_users_and_groups_of_an_access_control_list_are_told(
    tmp_path: Path, umask: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode says `rwxrwxr-x`, as it does where only the user's own group may write."""
    monkeypatch.setattr(ownership, "_is_private", lambda group: group != NOBODY)
    folder, key = tmp_path / "run", tmp_path / "key"
    folder.mkdir()
    key.touch(0o600)
    assert ownership.others_who_write(folder) == [] and ownership.readable_by_others(key) == ""
    give_by_list(folder, (2, 7, NOBODY), (2, 5, 12345), (8, 6, NOBODY))
    group, user = ownership.others_who_write(folder)
    assert f"members of group {NOBODY} " in group and f"lets the user {NOBODY} write" in user
    give_by_list(key, (2, 4, NOBODY))
    assert f"the user {NOBODY} may read it" in ownership.readable_by_others(key)
    monkeypatch.setenv(ownership.TRUST, f"{NOBODY},@{NOBODY}")
    assert ownership.others_who_write(folder) == [] and ownership.readable_by_others(key) == ""
    monkeypatch.delenv(ownership.TRUST)
    folder.chmod(0o755)  # the mask takes their right to write away
    assert ownership.others_who_write(folder) == []


def test_a_list_that_new_folders_inherit_is_told_before_the_run_is_made(
    tmp_path: Path, umask: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_is_private", lambda group: group != NOBODY)
    give_by_list(tmp_path, (8, 7, NOBODY), of="default")
    [said] = ownership.others_who_write(tmp_path / "run")
    (tmp_path / "run").mkdir()
    assert f"members of group {NOBODY} " in said and ownership.others_who_write(tmp_path / "run") == [said]
    # chmod -R g-w takes their right to the folder, and leaves what its new files inherit
    (tmp_path / "run").chmod(0o755)
    assert ownership.others_who_write(tmp_path / "run") == [said] and ownership.others_write(tmp_path / "run")


def test_a_place_where_everybody_can_put_another_run(tmp_path: Path, umask: object) -> None:
    tmp_path.chmod(0o777)
    [said] = ownership.others_who_write(tmp_path / "deep" / "run")
    assert "no sticky bit" in said
    tmp_path.chmod(0o1777)
    assert ownership.others_who_write(tmp_path / "deep" / "run") == []


def test_a_configuration_that_everybody_can_write(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: x\n")
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="names programs that run as you"):
        load_config(str(file))


@as_root
@pytest.mark.parametrize(
    "load", [load_config, load_profile, lambda name: load_campaign(Path(name)), load_benchmark]
)
def test_a_configuration_in_a_folder_for_everybody_is_our_own(
    load: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names plug-ins: whoever put another in place of ours, which had been cleaned away, ran code as us."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "theirs" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("nonsense: 1\n")
    (tmp_path / "link.yaml").symlink_to(file)
    os.chown(file, NOBODY, -1)
    os.chown(tmp_path / "link.yaml", NOBODY, -1, follow_symlinks=False)
    for name in ("theirs/mine.yaml", str(file), "link.yaml"):  # read, and found wrong
        with pytest.raises(ConfigError, match="nonsense"):
            load(name)
    tmp_path.chmod(0o1777)
    for name in ("link.yaml", "./link.yaml", str(tmp_path / "link.yaml")):
        with pytest.raises(ConfigError, match=f"is another user's, {NOBODY}, in a folder where everybody"):
            load(name)
    os.chown(file.parent, NOBODY, -1)
    with pytest.raises(ConfigError, match="leads to files of another user"):
        load("theirs/mine.yaml")
    with pytest.raises(ConfigError, match="nonsense"):  # a colleague's folder, by its whole name
        load(str(file))
    monkeypatch.setenv(ownership.TRUST, str(NOBODY))
    with pytest.raises(ConfigError, match="nonsense"):
        load("link.yaml")


@as_root
def test_a_folder_for_everybody_holds_no_benchmark_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (file := tmp_path / "openai" / "gsm8k" / "test.jsonl").parent.mkdir(parents=True)
    file.write_text('{"problem": "1+1?", "answer": "3"}\n')
    assert len(load_benchmark("openai/gsm8k").problems) == 1
    tmp_path.chmod(0o1777)
    assert len(load_benchmark("openai/gsm8k").problems) == 1
    os.chown(tmp_path / "openai", NOBODY, -1)
    with pytest.raises(ConfigError, match="leads to files of another user"):
        load_benchmark("openai/gsm8k")


def test_a_file_does_not_hide_a_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder where a command is typed may be one for everybody."""
    (tmp_path / "tiny").write_text("plugins: [/tmp]\n")
    monkeypatch.chdir(tmp_path)
    assert find_config("tiny").suffix == ".yaml"
    assert find_config("./tiny").resolve() == tmp_path / "tiny"
    (tmp_path / "tiny_validate").write_text("plugins: [/tmp]\n")
    assert find_campaign("tiny_validate").suffix == ".yaml"
    assert find_campaign("./tiny_validate").resolve() == tmp_path / "tiny_validate"


@as_root
def test_a_models_id_is_no_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Lab" / "model").mkdir(parents=True)
    (tmp_path / "mine.yaml").write_text("student: {model: Lab/model}\n")
    assert load_config("mine.yaml").student.model == str(tmp_path / "Lab" / "model")
    os.chown(tmp_path / "Lab", NOBODY, -1)
    load_config("mine.yaml")  # a colleague's, in a folder that is not for everybody
    tmp_path.chmod(0o1777)
    with pytest.raises(ConfigError, match="leads to files of another user"):
        load_config("mine.yaml")


@as_root
def test_a_configuration_below_a_folder_where_everybody_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its whole name: who has put another folder in place of ours chose the programs that it names."""
    (tmp_path / "open" / "mine").mkdir(parents=True)
    (file := tmp_path / "open" / "mine" / "my.yaml").write_text("nonsense: 1\n")
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link.yaml").symlink_to(file)
    for name in (file, tmp_path / "link.yaml"):
        with pytest.raises(ConfigError, match="nonsense"):
            load_config(str(name))
    os.chown(file.parent, NOBODY, -1)
    for name in (file, tmp_path / "link.yaml"):
        with pytest.raises(
            ConfigError, match=f"mine is another user's, {NOBODY}, in a folder where everybody can"
        ):
            load_config(str(name))
    (tmp_path / "open").chmod(0o1777)
    with pytest.raises(ConfigError, match="nonsense"):  # a colleague's, which is the user's to choose
        load_config(str(file))


def write_rows(file: Path) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    return file


@as_root
@pytest.mark.parametrize("where", ["from there", "by the whole name"])
@pytest.mark.parametrize(
    ("pattern", "theirs"),
    [
        ("p-*.jsonl", "p-1.jsonl"),
        ("pd*/p-1.jsonl", "pd-theirs"),
        ("pd-[a-z]*/*.jsonl", "pd-theirs"),
        ("../scratch", "p-1.jsonl"),
    ],
)
def test_a_pattern_finds_no_file_that_another_user_has_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, theirs: str, where: str
) -> None:
    """Shards in a scratch folder for everybody, and one more of somebody else's."""
    (scratch := tmp_path / "scratch").mkdir()
    write_rows(scratch / "p-0.jsonl")
    write_rows(scratch / "p-1.jsonl")
    write_rows(scratch / "pd-mine" / "p-1.jsonl")
    write_rows(scratch / "pd-theirs" / "p-1.jsonl")
    monkeypatch.chdir(scratch)
    source = SourceConfig(path=pattern if where == "from there" else str(scratch / pattern))
    read = len(load_problems(source).problems)
    assert read
    os.chown(scratch / theirs, NOBODY, -1, follow_symlinks=False)
    assert len(load_problems(source).problems) == read, "a colleague's, in a folder that is not for everybody"
    scratch.chmod(0o1777)
    with pytest.raises(
        ConfigError, match=f"{theirs} is another user's, {NOBODY}, in a folder where everybody"
    ):
        load_problems(source)
    monkeypatch.setenv(ownership.TRUST, str(NOBODY))
    assert len(load_problems(source).problems) == read


@as_root
@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("data.train.path", "pdir"),
        ("data.train.path", ".data/p-1.jsonl"),
        ("data.train.path", "rows"),
        ("data.rationales.run", "pdir"),
        ("student.prompt", "pdir"),
        ("teacher.prompt", ".mypr"),
        ("hub.token_file", "rows"),
    ],
)
@pytest.mark.parametrize("said", ["--set", "in a file elsewhere"])
def test_a_bare_word_is_nothing_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, name: str, said: str
) -> None:
    (scratch := tmp_path / "scratch").mkdir()
    write_rows(scratch / "rows")
    for folder in ("pdir", ".data", ".mypr"):
        write_rows(scratch / folder / "p-1.jsonl")
        (scratch / folder / "student.txt").write_text("{{ problem }}")
    section, _, last = key.rpartition(".")
    (file := tmp_path / "mine.yaml").write_text(
        f"{{{section.replace('.', ': {')}: {{{last}: {name}}}}}" + "}" * section.count(".")
    )

    def load() -> object:
        return load_config(str(file)) if said != "--set" else from_sets([f"{key}={name}"])

    monkeypatch.chdir(scratch)
    load()
    os.chown(scratch / Path(name).parts[0], NOBODY, -1)
    load()
    scratch.chmod(0o1777)
    with pytest.raises(ConfigError, match=f"'{name}' leads to files of another user, {NOBODY}"):
        load()


@as_root
def test_a_presets_name_is_no_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "student.txt").write_text("{{ problem }}")
    os.chown(tmp_path / "tiny", NOBODY, -1)
    monkeypatch.chdir(tmp_path)
    assert from_sets(["student.prompt=tiny"]).student.prompt == "tiny"


@pytest.mark.parametrize("name", [".", "", "./mine", "..", "../mine", "nobody-has-this"])
def test_a_folder_that_is_meant_by_itself_is_none_of_another_user(tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o777)
    ownership.require_not_planted(tmp_path, name, "plugins")


def test_secrets_that_others_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.touch(0o600)
    assert not ownership.readable_by_others(file) and not ownership.readable_by_others(tmp_path / "no")
    file.chmod(0o644)
    assert "chmod 600" in ownership.readable_by_others(file)
    file.chmod(0o640)
    monkeypatch.setattr(ownership, "_is_private", lambda group: False)
    assert "members of group" in ownership.readable_by_others(file)
    monkeypatch.setenv(ownership.TRUST, "@" + ownership._group(file.stat().st_gid))
    assert not ownership.readable_by_others(file)


def test_nothing_that_a_command_writes_is_for_everybody(tmp_path: Path, umask: object) -> None:
    os.umask(0)
    guard(lambda: (tmp_path / "written").touch() or 0)
    assert (tmp_path / "written").stat().st_mode & 0o777 == 0o664
