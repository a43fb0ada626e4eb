"""After a whole run with marked secrets, none of them stands in any file of the run, in what was printed, or in what would be published.

The teacher is a server that repeats what it was sent (its headers, too) in its refusals and failures, and whose words would act on a
terminal.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests import figures
from tests.e2e.campaign import Small
from tests.engines.loopback import Server, answer
from tests.training import tiny_student
from undo_hpc.hub.contents import packages
from undo_hpc.pipeline.run import open_run

KEY, TOKEN, PASSWORD = ("marked-" + word + "-4711" for word in ("key", "token", "password"))


def test_no_secret_is_left_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tiny_student.rows(24)
    answers = {row["problem"]: row["gt"] for row in rows}
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f"{json.dumps({'problem': r['problem'], 'answer': r['gt']})}\n" for r in rows))
    key = tmp_path / "key"
    key.write_text(KEY)

    def reply(number: int, body: dict[str, object]) -> tuple[int, object]:
        prompt = str(body["messages"])
        if number % 4 == 1:  # an error of this request alone
            sent = there.headers[-1]
            return 400, {
                "error": {"message": f"\x1b[2J moderated: {sent} Bearer {KEY}", "code": "content_filter"}
            }
        gt = next((gt for problem, gt in answers.items() if problem in prompt), "2")
        return 200, answer(f"\\boxed{{{gt}}}")

    there = Server(reply)
    for name, value in (("HF_TOKEN", TOKEN), ("OPENAI_API_KEY", PASSWORD), ("VLLM_API_KEY", PASSWORD)):
        monkeypatch.setenv(name, value)
    run = Small(
        tmp_path / "run",
        sets=(
            "name=secrets", "iterations=1", f"data.train={json.dumps({'path': str(data)})}", "data.validation=4", "data.diagnosis=4",
            f"generate.engine={json.dumps({'name': 'openai', 'openai': {'base_url': there.url, 'api_key_file': str(key)}})}",
            "teacher.model=some/teacher", "evaluate.benchmarks=[]", "evaluate.baseline=false", "train.max_steps=2",
            "generate.max_attempts=1", "hub.dataset_repo=me/data", "hub.model_repo=me/student",
        ),
    )  # fmt: skip
    done = run.launch()
    there.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(KEY in str(headers) for headers in there.headers), "the server was sent the key"
    files = {path: path.read_bytes() for path in run.run_dir.rglob("*") if path.is_file()}
    assert any(b"moderated" in content for content in files.values()), "its words were recorded"
    texts = {str(path): content for path, content in files.items()} | {
        "printed": (done.stdout + done.stderr).encode()
    }
    opened = open_run(run.run_dir)
    published = [item for package in packages(opened) for item in package.items]
    texts |= {f"published {i.path}": i.data if i.local is None else i.local.read_bytes() for i in published}
    assert len(texts) > 40
    for secret in (KEY, TOKEN, PASSWORD):
        assert [name for name, content in texts.items() if secret.encode() in content] == []
    figures.count("a run with marked secrets", files_searched=len(texts))
    rows_and_pages = [name for name in texts if name.endswith((".jsonl", ".md", ".html", "printed"))]
    assert [name for name in rows_and_pages if re.search(rb"\x1b\[2J", texts[name])] == []
