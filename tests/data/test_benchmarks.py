"""Benchmarks by name, file and override."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from undo_hpc.config.load import read_yaml, validate_section
from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.benchmarks import benchmark_names, load_benchmark
from undo_hpc.data.benchmarks.loader import FOLDER, BenchmarkFile
from undo_hpc.errors import ConfigError, DataError


def jsonl(path: Path, rows: list[dict[str, object]]) -> SourceConfig:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SourceConfig(path=str(path))


def test_names() -> None:
    assert {"gsm8k", "math500", "mmlu_pro_math", "svamp", "tiny"} <= set(benchmark_names())


@pytest.mark.parametrize("name", benchmark_names())
def test_every_embedded_file_says_what_users_need(name: str) -> None:
    spec = validate_section(BenchmarkFile, read_yaml(FOLDER / f"{name}.yaml"))
    assert spec.title
    assert spec.source.licence
    assert spec.source.answer_kind != "auto"
    if spec.source.hub:
        assert spec.size
        assert spec.homepage
        assert spec.citation
        # these have their labelled problems in a split of another name
        assert "test" in spec.source.split or name in ("commonsense_qa", "gsm_hard", "amc", "aime")


def test_the_tiny_benchmark() -> None:
    tiny = load_benchmark("tiny", None, 0)
    assert len(tiny.problems) == 400
    assert (tiny.kind, tiny.duplicates, tiny.name) == ("number", 0, "tiny")
    assert load_benchmark("tiny", None, 7).problems == tiny.problems[:7]


def test_hub_columns_and_local_columns_give_the_same_problem(tmp_path: Path) -> None:
    """A row of the Hub's copy and the same row of the original file differ in names and types, not in the problem."""
    hub = {
        "ID": "chal-1",
        "Body": "Ann has 3.",
        "Question": "How many?",
        "Answer": "3.0",
        "Type": "x",
        "question_concat": "Ann has 3. How many?",
    }
    local = {"Body": "Ann has 3.", "Question": "How many?", "Answer": 3.0}
    a, b = (
        load_benchmark("svamp", jsonl(tmp_path / f"{i}.jsonl", [row])).problems[0]
        for i, row in enumerate((hub, local))
    )
    assert (a.problem_id, a.problem) == (b.problem_id, b.problem)

    mmlu = {"question": "Which?", "options": ["red", "blue"], "answer": "B", "category": "math"}
    other = mmlu | {"question": "What law?", "category": "law"}
    local = {key: value for key, value in mmlu.items() if key != "category"}
    hub_like = load_benchmark("mmlu_pro_math", jsonl(tmp_path / "m.jsonl", [mmlu, other]))
    local_like = load_benchmark("mmlu_pro_math", jsonl(tmp_path / "l.jsonl", [local]))
    assert hub_like.problems[0].problem_id == local_like.problems[0].problem_id
    assert len(hub_like.problems) == 1, "other subjects are left out where the column tells them"
    assert local_like.source["where_ignored"] == ["category"]


def test_an_override_may_name_its_own_columns(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"prompt": "One?", "reply": "#### 1"}])
    with pytest.raises(DataError, match="looked for 'question', 'problem'"):
        load_benchmark("gsm8k", source)
    own = SourceConfig.model_validate(
        {"path": source.path, "fields": {"problem": "prompt", "answer": "reply"}}
    )
    loaded = load_benchmark("gsm8k", own)
    assert (loaded.problems[0].ground_truth, loaded.problems[0].kind, loaded.licence) == (
        "1",
        "number",
        "MIT",
    )


def test_a_relative_override_is_meant_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl(tmp_path / "a.jsonl", [{"question": "One?", "answer": "#### 1"}])
    monkeypatch.chdir(tmp_path)
    assert load_benchmark("gsm8k", SourceConfig(path="a.jsonl")).problems[0].ground_truth == "1"


def test_offline_says_what_to_do() -> None:
    with pytest.raises(DataError, match="openai/gsm8k") as caught:
        load_benchmark("gsm8k")
    assert "path" in caught.value.hint


def test_an_unknown_name_and_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no benchmark named 'math_500'") as caught:
        load_benchmark("math_500")
    assert "did you mean 'math500'?" in caught.value.hint
    with pytest.raises(ConfigError, match="no such benchmark file"):
        load_benchmark("nowhere/mine.yaml")


def test_ones_own_yaml_file(tmp_path: Path) -> None:
    jsonl(tmp_path / "rows.jsonl", [{"frage": "Wie viele?", "antwort": "sieben"}])
    (tmp_path / "mine.yaml").write_text(
        "title: Mine\nsource:\n  path: rows.jsonl\n  fields: {problem: frage, answer: antwort}\n  answer_kind: text\n  licence: CC0\n"
    )
    mine = load_benchmark(str(tmp_path / "mine.yaml"))
    assert (mine.name, mine.title, mine.licence, mine.kind) == ("mine", "Mine", "CC0", "text")
    assert mine.problems[0].ground_truth == "sieben"


def test_a_wrong_key_in_a_yaml_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "title: Mine\nsource:\n  path: rows.jsonl\n  feilds: {problem: frage}\n"
    )
    with pytest.raises(ConfigError, match=r"mine\.yaml, line 4: unknown key 'source\.feilds'") as caught:
        load_benchmark(str(tmp_path / "mine.yaml"))
    assert "did you mean 'fields'" in caught.value.hint


def test_questions_of_knowledge_are_answered_by_words_and_letters(tmp_path: Path) -> None:
    strategy = [
        {"question": "Do fish swim?", "answer": True, "facts": []},
        {"question": "Do stones?", "answer": False},
    ]
    loaded = load_benchmark("strategyqa", jsonl(tmp_path / "s.jsonl", strategy))
    assert [p.ground_truth for p in loaded.problems] == ["yes", "no"] and loaded.kind == "text"

    def question(text: str, labels: str, key: str) -> dict[str, object]:
        return {
            "question": text,
            "choices": {"label": [*labels], "text": ["sea", "sky", "1"]},
            "answerKey": key,
        }

    rows = [question("Fish?", "ABC", "A"), question("Birds?", "123", "2"), question("One?", "123", "1")]
    for name in ("commonsense_qa", "arc_challenge"):
        found = load_benchmark(name, jsonl(tmp_path / f"{name}.jsonl", rows)).problems
        assert [p.ground_truth for p in found] == ["A", "B", "A"]
        assert found[1].problem.endswith("A. sea\nB. sky\nC. 1") and found[1].kind == "letter"


def test_numbers_and_parts_of_a_benchmark(tmp_path: Path) -> None:
    hard = load_benchmark(
        "gsm_hard", jsonl(tmp_path / "h.jsonl", [{"input": "How many?", "code": "x", "target": -9867630.0}])
    )
    assert hard.problems[0].ground_truth == "-9867630"
    amc = load_benchmark(
        "amc", jsonl(tmp_path / "a.jsonl", [{"id": 0, "problem": "Find m+n.", "answer": 142.0, "url": ""}])
    )
    assert amc.problems[0].ground_truth == "142"
    parts = {
        name: validate_section(BenchmarkFile, read_yaml(FOLDER / f"{name}.yaml"))
        for name in ("svamp", "svamp300")
    }
    assert {name: (spec.size, spec.source.split) for name, spec in parts.items()} == {
        "svamp": (1000, "train+test"), "svamp300": (300, "test")
    }  # fmt: skip
