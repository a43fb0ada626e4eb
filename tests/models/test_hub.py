"""The Hub's answers about a model."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from undo_hpc.errors import DataError
from undo_hpc.models.hub import check_hub_model


@pytest.mark.parametrize("etag", ["../../../key", "a/b", ".hidden", "/etc/hostname", "x" * 300, "a b"])
def test_no_answer_of_the_hub_names_a_file_elsewhere(
    hub: list[tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, etag: str
) -> None:
    """huggingface_hub names files of its cache by ETags: a mirror had a key read into the student, and files written anywhere."""
    from huggingface_hub import hf_hub_download

    monkeypatch.setitem(HEADERS, "ETag", f'"{etag}"')
    hub.append((200, ""))
    with pytest.raises(DataError, match="is no plain name"):
        hf_hub_download("org/model", "config.json", cache_dir=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("revision", ["refs/pr/../../../../.bashrc", "/home/us/.bashrc"])
def test_no_revision_is_a_path(hub: list[tuple[int, str]], tmp_path: Path, revision: str) -> None:
    """That of a pull request, which a server names when transformers asks it for safetensors: any file was overwritten."""
    from huggingface_hub import hf_hub_download

    hub.append((200, ""))
    with pytest.raises(DataError, match="is no plain name"):
        hf_hub_download("org/model", "config.json", revision=revision, cache_dir=tmp_path)
    assert hf_hub_download("org/model", "config.json", revision="refs/pr/1", cache_dir=tmp_path)
    assert os.environ["DISABLE_SAFETENSORS_CONVERSION"] == "1"


def test_no_list_of_files_names_one_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files in Xet the list of a repository says the ETag."""
    from huggingface_hub import file_download

    told = ("url", "/home/us/.bash_profile", "a" * 40, 3, None, None)
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr(file_download, "_xet_file_metadata_from_tree_cache", lambda **_: told)
    with pytest.raises(DataError, match="is no plain name"):
        file_download._get_metadata_or_catch_error(
            repo_id="o/m", filename="a.bin", repo_type="model", revision="a" * 40, endpoint=None, etag_timeout=1, headers={},
            token=None, local_files_only=False, storage_folder="x", relative_filename="a.bin", tree_cache_folder="x",
        )  # fmt: skip


@pytest.mark.parametrize("etag", ['"1"', 'W/"5d41402a"', '"33a64df5-1f"', '"{SHA1{e5b8}}"', '"80e9e1:0"'])
def test_the_forms_of_mirrors_are_taken(
    hub: list[tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, etag: str
) -> None:
    from huggingface_hub import hf_hub_download

    monkeypatch.setitem(HEADERS, "ETag", etag)
    hub.append((200, ""))
    assert Path(hf_hub_download("org/model", "config.json", cache_dir=tmp_path)).read_text() == "{}"


def test_no_commit_of_the_hub_leads_out_of_its_cache(
    hub: list[tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a Hub says that it does not have is noted below the commit that it names: empty files were made anywhere."""
    from huggingface_hub import hf_hub_download

    for commit in (str(tmp_path / "elsewhere"), "../../elsewhere", "touch${IFS}it"):
        monkeypatch.setitem(HEADERS, "X-Repo-Commit", commit)
        hub.append((404, "EntryNotFound"))
        with pytest.raises(DataError, match="is no plain name"):
            hf_hub_download("org/model", "config.json", cache_dir=tmp_path / "cache")
    assert not list(tmp_path.rglob("elsewhere"))


def test_no_commit_in_what_the_hub_says_of_a_repository_leads_out_of_its_cache() -> None:
    """A list of its files was written over any `.json` of ours."""
    from huggingface_hub import hf_api

    for kind in (hf_api.ModelInfo, hf_api.DatasetInfo):
        assert kind(id="o/m", sha="a" * 40, private=False, siblings=[]).sha == "a" * 40
        with pytest.raises(DataError, match="is no plain name"):
            kind(id="o/m", sha="/home/us/precious", private=False, siblings=[])


HEADERS = {"X-Repo-Commit": "0" * 40, "ETag": '"1"'}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, str]]]:
    """A Hub that answers every request with the last (status, error code) of the list."""
    from huggingface_hub import constants

    answers: list[tuple[int, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            status, code = answers[-1]
            self.send_response(status)
            for name, value in (("X-Error-Code", code), *HEADERS.items(), ("Content-Length", "2")):
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield answers
    server.shutdown()
    server.server_close()


def test_a_model_that_the_hub_does_not_have_is_refused_and_a_silent_hub_is_not_believed(
    hub: list[tuple[int, str]],
) -> None:
    hub.append((200, ""))
    check_hub_model("org/model")
    hub.append((503, ""))
    check_hub_model("org/model")
    for status, code, words in ((404, "RepoNotFound", "no model org/modle"), (404, "RevisionNotFound", "no revision 'v9'"),
                                (403, "GatedRepo", "gated"), (404, "EntryNotFound", r"no config\.json")):  # fmt: skip
        hub.append((status, code))
        with pytest.raises(DataError, match=words):
            check_hub_model("org/modle", "v9")
    with pytest.raises(DataError, match="nor an id"):
        check_hub_model("my model")


def test_without_a_network_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    check_hub_model("org/model")  # HF_HUB_OFFLINE is set in tests
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    check_hub_model("org/model")
