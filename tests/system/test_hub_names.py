"""No process of ours takes a path for a name from a Hub: the guard comes with the package, before whatever asks first."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASKED = """
import sys
{first}
import undo_hpc
import huggingface_hub
from huggingface_hub import file_download, hf_api
from huggingface_hub.utils import _detect_agent, _http
from undo_hpc.errors import DataError
from undo_hpc.system.hub_names import guard_names

guard_names()  # twice is once
assert _detect_agent.detect_agent() is None
for act in (
    lambda: hf_api.ModelInfo(id="o/m", sha="/home/us", private=False, siblings=[]),
    lambda: file_download._get_metadata_or_catch_error(revision="refs/pr/../../.bashrc"),
):
    try:
        act()
    except DataError:
        continue
    raise SystemExit("it was taken")
(hook,) = _http.get_session().event_hooks["response"]
print("guarded")
"""


@pytest.mark.parametrize("first", ["", "import huggingface_hub.hf_api"])
def test_each_process_is_guarded_whoever_imports_the_hub_first(first: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKED.format(first=first)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "guarded", done.stderr


def test_the_package_loads_no_hub_for_it() -> None:
    words = "import sys, undo_hpc; print([m for m in ('huggingface_hub', 'transformers', 'importlib.abc') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert "huggingface_hub" not in done.stdout and "transformers" not in done.stdout
