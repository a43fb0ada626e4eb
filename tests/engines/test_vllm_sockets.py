"""Who comes in where the processes of one vLLM meet."""

import os
from pathlib import Path

import pytest

from undo_hpc.config.schema import VllmEngineConfig
from undo_hpc.engines import vllm_settings, vllm_sockets


def test_the_processes_of_one_vllm_meet_where_no_group_comes_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("VLLM_RPC_BASE_PATH", raising=False)
    before = os.umask(0o002)
    try:
        place = Path(vllm_settings.environment(VllmEngineConfig())["VLLM_RPC_BASE_PATH"])
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o777 == 0o700 and len(str(place)) + 37 < 107
    assert vllm_settings.environment(VllmEngineConfig())["VLLM_RPC_BASE_PATH"] == str(place)
    vllm_sockets.socket_folder.cache_clear()
    monkeypatch.setattr(vllm_sockets.tempfile, "tempdir", "/" + "t" * 60)
    place = Path(vllm_settings.environment(VllmEngineConfig())["VLLM_RPC_BASE_PATH"])
    assert place.stat().st_mode & 0o777 == 0o700 and len(str(place)) + 37 < 107, "too long for a socket"
    vllm_sockets.socket_folder.cache_clear()
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(tmp_path))
    assert "VLLM_RPC_BASE_PATH" not in vllm_settings.environment(VllmEngineConfig())
