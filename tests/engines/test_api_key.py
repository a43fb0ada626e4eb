"""The key for a server: where it is found, and where it must not stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engines.loopback import answer, asked, client, run
from undo_hpc.engines.api_key import find_key
from undo_hpc.errors import ConfigError


class TestKey:
    def test_from_the_environment_and_from_a_file_which_wins(
        self, server: Any, monkeypatch: Any, tmp_path: Path
    ) -> None:
        there = server(lambda *_: (200, answer()))
        monkeypatch.setenv("MY_KEY", " k-env ")
        (tmp_path / "key").write_text("k-file\n")
        run(client(there.url, api_key_env="MY_KEY"), asked(1))
        run(client(there.url, api_key_env="MY_KEY", api_key_file=str(tmp_path / "key")), asked(1))
        assert [h["Authorization"] for h in there.headers] == ["Bearer k-env", "Bearer k-file"]

    def test_it_stands_in_no_description(self, monkeypatch: Any) -> None:
        monkeypatch.setenv("MY_KEY", "k-env")
        assert "k-env" not in json.dumps(client("http://h/v1", api_key_env="MY_KEY").describe())

    def test_a_missing_one_is_said_at_once(self, monkeypatch: Any, tmp_path: Path) -> None:
        monkeypatch.delenv("MY_KEY", raising=False)
        with pytest.raises(ConfigError, match="MY_KEY is not set"):
            client("http://h/v1", api_key_env="MY_KEY", require_key=True)
        with pytest.raises(ConfigError, match="cannot be read"):
            find_key(str(tmp_path / "none"), "MY_KEY", required=False)
        (tmp_path / "empty").write_text("\n")
        with pytest.raises(ConfigError, match="is empty"):
            find_key(str(tmp_path / "empty"), "MY_KEY", required=False)
        (tmp_path / "two").write_text("one\ntwo")
        with pytest.raises(ConfigError, match="no key has"):
            find_key(str(tmp_path / "two"), "MY_KEY", required=False)
        assert find_key("", "MY_KEY", required=False) == ""
