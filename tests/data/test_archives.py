"""Archives among a data set's files bring files, and nothing that leads anywhere else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from undo_hpc.config.schema import SourceConfig
from undo_hpc.data import load_problems
from undo_hpc.errors import DataError

ROW = b'{"problem": "%d + 1?", "answer": "2"}\n'


def packed(path: Path, members: list[tuple[str, bytes, str, bytes]]) -> None:
    """An archive of (name, kind, end of a link, content)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, end, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, end, len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("name", ["z.jsonl.tgz", "z.jsonl", "z.tar.gz"])
@pytest.mark.parametrize("how", ["a link", "a hard link", "a name"])
def test_no_member_of_an_archive_leads_out_of_it(tmp_path: Path, how: str, name: str) -> None:
    """`.bashrc` was replaced, and a key was a row: by a data set of anybody's, of the Hub too."""
    folder, ours = tmp_path / "set", tmp_path / "home/.bashrc"
    folder.mkdir()
    ours.parent.mkdir()
    ours.write_text("ours")
    (folder / "a.jsonl").write_bytes(ROW % 1)
    out = "d/" * 14 + "../" * 14 + str(ours).lstrip("/")
    members = [("d", tarfile.SYMTYPE, ".", b""), ("b.jsonl", tarfile.REGTYPE, "", ROW % 2)]
    members += {
        "a link": [("k.jsonl", tarfile.SYMTYPE, out, b"")],
        "a hard link": [("k.jsonl", tarfile.LNKTYPE, out, b""), ("k.jsonl", tarfile.REGTYPE, "", b"theirs")],
        "a name": [(out, tarfile.REGTYPE, "", b"theirs")],
    }[how]
    packed(folder / name, members)
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- {{config_name: default, data_files: [a.jsonl, {name}]}}\n---\n"
    )
    with pytest.raises(DataError):
        load_problems(SourceConfig(hub=str(folder)))
    assert ours.read_text() == "ours"


def test_a_plain_archive_is_read_and_read_again_where_it_was_replaced(tmp_path: Path) -> None:
    for number in (1, 7):
        packed(tmp_path / "z.jsonl.tgz", [("z.jsonl", tarfile.REGTYPE, "", ROW % number)])
        (tmp_path / "a.jsonl").write_bytes(ROW % 0)
        loaded = load_problems(SourceConfig(hub=str(tmp_path)))
        assert f"{number} + 1?" in [p.problem for p in loaded.problems]
