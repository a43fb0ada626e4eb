"""Temporary files and caches of code lie where no other user can put something of theirs. Other owners need root."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.system.test_ownership import give_by_list
from undo_hpc.checkers.sandbox import run_python
from undo_hpc.engines.vllm_sockets import socket_folder
from undo_hpc.system import own_places, ownership
from undo_hpc.system.guard import guard
from undo_hpc.system.invocation import python_module

NOBODY = 54321  # a user that no system has
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, a temporary folder below it, and nothing set for caches."""
    for variable in (*own_places.CODE_CACHES, "XDG_CACHE_HOME", "HF_HOME", ownership.TRUST):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "home"


def caches(also: str = "") -> dict[str, str]:
    """What is set, but for the folders in that of torch's compiler, which are always set."""
    always = own_places.IN_COMPILERS
    return {
        name: place for name, place in own_places.code_caches().items() if name == also or name not in always
    }


@pytest.mark.parametrize("mode", [0o777, 0o2777])
def test_nothing_is_made_in_a_temporary_folder_where_everybody_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    shared, before = tmp_path / "tmp", tempfile.gettempdir()
    for allowed in (0o700, 0o755, 0o1777):
        shared.chmod(allowed)
        own_places.leave_shared_temporary_folder()
        assert tempfile.gettempdir() == before == os.environ["TMPDIR"]
    shared.chmod(mode)
    monkeypatch.setenv(ownership.TRUST, "*")
    own_places.leave_shared_temporary_folder()
    assert tempfile.gettempdir() == before
    monkeypatch.delenv(ownership.TRUST)

    def command() -> int:
        assert tempfile.gettempdir() == os.environ["TMPDIR"] != before
        return 0 if run_python("", seconds=20, megabytes=500).code == 0 else 1

    seen: list[str] = []
    made = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **named: seen.append(made(**named)) or seen[-1])
    assert guard(command) == 0 and seen and not seen[0].startswith(str(tmp_path / "tmp"))


def test_where_no_temporary_folder_is_safe_it_lies_in_the_users_home(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").chmod(0o777)
    replaced = ownership.others_can_replace
    for_all = [Path("/tmp"), Path("/var/tmp")]
    monkeypatch.setattr(
        own_places, "others_can_replace", lambda folder: folder in for_all or replaced(folder)
    )
    own_places.leave_shared_temporary_folder()
    assert Path(tempfile.gettempdir()) == home / ".cache" / "undo-hpc" == Path(os.environ["TMPDIR"])


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that a group can write, where its members may rename what another has made; its group is no user's own."""
    (place := tmp_path / "lab").mkdir()
    (place / "mine").mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another group")
    os.chown(place, -1, NOBODY)
    place.chmod(0o2775)
    return place


def test_nothing_is_made_where_the_members_of_a_group_rename(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link in place of a sandbox had files of ours removed."""
    for place in (shared, shared / "mine"):
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        assert ownership.others_can_replace(place)
        with monkeypatch.context() as trusting:
            trusting.setenv(ownership.TRUST, f"@{NOBODY}")
            assert not ownership.others_can_replace(place)
        shared.chmod(0o3775)  # nobody but we and root, whose it is
        assert not ownership.others_can_replace(place)
        os.chown(shared, NOBODY, -1)
        assert ownership.others_can_replace(place), "whose it is may rename what is there"
        os.chown(shared, 0, -1)
        shared.chmod(0o2775)
        own_places.leave_shared_temporary_folder()
        assert not Path(tempfile.gettempdir()).is_relative_to(tmp_path)
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        socket_folder.cache_clear()
        made = Path(socket_folder(os.getpid()))
        socket_folder.cache_clear()
        made.rmdir()
        assert not made.is_relative_to(tmp_path)
    shared.chmod(0o2755)
    assert not ownership.others_can_replace(shared / "mine")
    os.chown(shared / "mine", NOBODY, -1)
    assert not ownership.others_can_replace(shared / "mine"), (
        "a site's, or a colleague's, who is to be trusted"
    )


def test_the_users_own_group_and_lists_that_give_nothing_are_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place := tmp_path / "mine").mkdir()
    place.chmod(0o2775)
    monkeypatch.setattr(ownership, "_is_private", lambda group: group != NOBODY)
    assert not ownership.others_can_replace(place)
    give_by_list(place, (2, 5, NOBODY), (8, 5, NOBODY))
    assert not ownership.others_can_replace(place)
    give_by_list(place, (2, 7, NOBODY))
    assert ownership.others_can_replace(place)
    give_by_list(place, (8, 7, NOBODY))
    assert ownership.others_can_replace(place)


@pytest.mark.parametrize("variable", own_places.CODE_CACHES)
def test_no_code_is_run_from_a_cache_of_ours_that_a_group_may_rename(
    shared: Path, home: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for place in (shared / "mine", shared / "mine" / "to be made"):
        monkeypatch.setenv(variable, str(place))
        assert Path(caches(variable)[variable]).is_relative_to(home)
    monkeypatch.setenv(ownership.TRUST, f"@{NOBODY}")
    assert caches(variable) == {}


def test_where_a_group_can_write_beside_all_caches_ours_stay_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With umask 002 and a group of several users each process had a new folder, and compiled again."""
    monkeypatch.setattr(ownership, "_is_private", lambda group: False)
    (home / ".cache").mkdir()
    (home / ".cache").chmod(0o2775)
    before = os.umask(0o002)
    try:
        first = caches()
        assert first == caches() and first["VLLM_CACHE_ROOT"] == str(home / ".undo-hpc" / "vllm_cache_root")
    finally:
        os.umask(before)
    assert (home / ".undo-hpc").stat().st_mode & 0o777 == 0o700


@as_root
def test_a_home_for_everybody_is_no_place_that_another_user_has_made(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HOME=/tmp, as services and containers have it."""
    own_places._new_home.cache_clear()
    home.chmod(0o1777)
    (theirs := tmp_path / "theirs").mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(theirs))
    ours = home / ".cache" / "undo-hpc"
    assert set(caches().values()) >= {str(ours / "torch_extensions_dir"), str(ours / "triton_cache_dir")}
    assert ours.stat().st_mode & 0o777 == 0o700
    (home / ".cache").rename(tmp_path / "cache")
    ours.mkdir(parents=True)
    for folder in (home / ".cache", ours):
        os.chown(folder, NOBODY, NOBODY)
        folder.chmod(0o777)
    found = caches()
    assert {"TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "TORCH_EXTENSIONS_DIR"} <= set(found)
    assert not [place for place in found.values() if Path(place).is_relative_to(home / ".cache")]
    assert (home / ".undo-hpc").stat().st_mode & 0o777 == 0o700 and ours not in own_places.temporary_folders()
    home.chmod(0o755)
    assert set(caches()) == {
        "TORCH_EXTENSIONS_DIR",
        "VLLM_CACHE_ROOT",
        "HF_MODULES_CACHE",
        "KERNELS_CACHE",
    }, "none that is not theirs"
    own_places._new_home.cache_clear()


@pytest.mark.parametrize(("mode", "stays"), [(0o700, True), (0o755, True), (0o777, False), (0o1777, False)])
def test_no_process_takes_bytecode_from_where_others_can_put_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, stays: bool
) -> None:
    (tmp_path / "pyc").mkdir()
    (tmp_path / "pyc").chmod(mode)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "pyc"))
    own_places.use_own_places()
    assert ("PYTHONPYCACHEPREFIX" in os.environ) == stays


@pytest.mark.parametrize("path", [":/site", "/site:", "/site", "::/site::"])
def test_no_process_that_we_start_imports_from_the_working_folder_by_an_empty_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "planted.py").write_text("")
    monkeypatch.chdir(tmp_path)
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, path)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:")

    def command() -> int:
        assert os.environ["PYTHONPATH"] == os.environ["LD_LIBRARY_PATH"] == "/site"
        assert not os.environ["PATH"].endswith(":")
        return subprocess.run(
            [*python_module("planted")[:2], "-c", "import planted"], stderr=subprocess.DEVNULL
        ).returncode

    assert guard(command) == 1


@as_root
def test_what_another_user_has_put_into_a_folder_for_everybody_is_no_place(tmp_path: Path) -> None:
    place = tmp_path / "all" / "theirs" / "deep"
    place.mkdir(parents=True)
    assert not ownership.others_can_replace(place)
    (tmp_path / "all").chmod(0o1777)
    assert not ownership.others_can_replace(place), "of root"
    os.chown(place.parent, NOBODY, NOBODY)
    assert ownership.others_can_replace(place)
    (tmp_path / "all").chmod(0o755)
    assert not ownership.others_can_replace(place), "a site's, or a colleague's, who is to be trusted"
    place.chmod(0o1777)
    os.chown(place, NOBODY, NOBODY)
    assert ownership.others_can_replace(place), "whose it is may rename what is there"


def test_the_compilers_cache_is_in_no_folder_of_another_user(tmp_path: Path, home: Path) -> None:
    name = own_places._compiler_folder()
    place = Path(name)
    assert place.parent == tmp_path / "tmp"
    assert caches() == {} and not place.exists(), "a temporary folder of our own"
    elsewhere = {"TORCHINDUCTOR_CACHE_DIR": str(home / ".cache" / "undo-hpc" / "torchinductor_cache_dir")}
    place.parent.chmod(0o777)  # whoever likes may put another in its place
    assert caches() == elsewhere
    place.parent.chmod(0o1777)
    assert caches() == {} and place.stat().st_mode & 0o777 == 0o700
    assert caches() == {}, "our own, of before"
    place.chmod(0o777)
    assert caches() == elsewhere
    place.rmdir()
    place.symlink_to(tmp_path / "tmp")
    assert caches() == elsewhere


def test_the_code_of_compilers_lies_in_no_folder_of_the_users_name_that_others_can_make(
    tmp_path: Path,
) -> None:
    (tmp_path / "tmp").chmod(0o1777)
    compilers = Path(own_places._compiler_folder())
    inside = own_places.IN_COMPILERS
    assert own_places.code_caches() == {name: str(compilers / inside[name]) for name in inside}
    assert compilers.is_dir()
    compilers.chmod(0o777)
    found = own_places.code_caches()
    above = Path(found["TORCHINDUCTOR_CACHE_DIR"])
    assert {name: found[name] for name in inside} == {name: str(above / inside[name]) for name in inside}


def test_no_vocabulary_is_taken_from_a_cache_that_another_user_may_have_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default tiktoken reads what lies in the temporary folder under the digest of a file's path, in place of that file."""
    from tiktoken.load import read_file_cached

    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    (vocabulary := tmp_path / "tokenizer.model").write_text("the model's own")
    planted = tmp_path / "tmp/data-gym-cache" / hashlib.sha1(str(vocabulary).encode()).hexdigest()
    planted.parent.mkdir()
    planted.write_text("planted")
    assert read_file_cached(str(vocabulary)) == b"planted", "the library as it is"
    own_places.use_own_places()
    assert read_file_cached(str(vocabulary)) == b"the model's own"
    (mine := tmp_path / "mine").mkdir(0o700)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(mine))
    own_places.use_own_places()
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(mine)


@as_root
@pytest.mark.parametrize("variable", own_places.CODE_CACHES)
def test_no_code_is_run_from_a_cache_that_a_site_has_set_for_everybody(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for_all = tmp_path / "caches"
    for_all.mkdir()
    for_all.chmod(0o1777)
    place = for_all / variable
    monkeypatch.setenv(variable, str(place))
    assert variable not in caches(variable) and place.stat().st_mode & 0o777 == 0o700
    os.chown(place, NOBODY, NOBODY)
    ours = caches(variable)[variable]
    assert Path(ours).is_relative_to(home)
    monkeypatch.setenv(variable, str(for_all))
    assert caches(variable) == {variable: ours}
    monkeypatch.setenv(ownership.TRUST, "*")
    assert caches() == {}
    monkeypatch.delenv(ownership.TRUST)
    monkeypatch.setenv(variable, str(tmp_path / "mine"))
    assert caches(variable) == {}


@as_root
@pytest.mark.parametrize(
    ("above", "below", "variable"),
    [
        ("XDG_CACHE_HOME", "vllm", "VLLM_CACHE_ROOT"),
        ("XDG_CACHE_HOME", "torch_extensions", "TORCH_EXTENSIONS_DIR"),
        ("XDG_CACHE_HOME", "huggingface", "HF_MODULES_CACHE"),
        ("HF_HOME", "modules", "HF_MODULES_CACHE"),
    ],
)
def test_no_code_is_run_from_another_users_folder_in_a_shared_cache(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, above: str, below: str, variable: str
) -> None:
    shared = tmp_path / "shared"
    (shared / below).mkdir(parents=True)
    shared.chmod(0o1777)
    monkeypatch.setenv(above, str(shared))
    assert caches() == {}, "our own"
    os.chown(shared / below, NOBODY, NOBODY)
    assert Path(caches()[variable]).is_relative_to(home)


@as_root
@pytest.mark.parametrize("variable", own_places.CODE_CACHES)
def test_no_code_is_run_from_a_cache_of_a_colleague_or_a_group(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for place in (shared, shared / "to be made"):
        monkeypatch.setenv(variable, str(place))
        assert caches(variable) == {}, "our own"
        os.chown(shared, NOBODY, 0)
        assert Path(caches(variable)[variable]).is_relative_to(home)
        os.chown(shared, 0, NOBODY)
        shared.chmod(0o2775)
        assert Path(caches(variable)[variable]).is_relative_to(home)
        monkeypatch.setenv(ownership.TRUST, f"@{ownership._group(NOBODY)}")
        assert caches(variable) == {}
        monkeypatch.delenv(ownership.TRUST)
        shared.chmod(0o2755)


def test_a_user_without_a_home_gets_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(*_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    (tmp_path / "for all").mkdir()
    (tmp_path / "for all").chmod(0o777)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "for all"))
    monkeypatch.setattr(Path, "home", nameless)
    monkeypatch.setattr(Path, "expanduser", nameless)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "for all"))
    own_places._new_home.cache_clear()
    own_places.code_caches()
    made = Path(caches()["TORCHINDUCTOR_CACHE_DIR"]).parents[2]
    assert made.parent == tmp_path / "tmp" and made.stat().st_mode & 0o777 == 0o700
    assert len(list((tmp_path / "tmp").glob("undo-home-*"))) == 1
    own_places._new_home.cache_clear()
    shutil.rmtree(made)
