"""The embedded prompts, word for word, and sets of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from undo_hpc.errors import ConfigError, DataError
from undo_hpc.prompts import load_prompts
from undo_hpc.records import ShownExample

GOLDEN = Path(__file__).parent / "golden"
PROBLEM = r"Let $f(x) = {x}^{2}$ and {problem}. Find $\frac{f(3)}{2}$."
RATIONALE = r"$f(3) = 9$, so \boxed{\frac{9}{2}} {truth}"
ATTEMPT = "f(3) = 6, so 3."


def example() -> ShownExample:
    return ShownExample(
        problem_id="p",
        problem="What is 7 * 8?",
        rationale="7 * 8 = 56.",
        student_answer="7 * 8 = 54",
        verdict="no_answer",
    )


PROMPTS = load_prompts("default")
CASES = {
    "problem": PROMPTS.problem(PROBLEM),
    "problem_instruction": PROMPTS.problem(PROBLEM, "Answer in \\boxed{}."),
    "student": PROMPTS.student(PROBLEM),
    "refine": PROMPTS.refine(PROBLEM, RATIONALE, ATTEMPT, "wrong"),
    "refine_blind": PROMPTS.refine(PROBLEM, RATIONALE, "", "wrong"),
    "refine_switches": PROMPTS.refine(
        PROBLEM,
        RATIONALE,
        ATTEMPT,
        "wrong",
        history=[replace(example(), score="0", iteration=0), replace(example(), rationale="", iteration=1)],
        score="0.25",
        error_kind="arithmetic",
        failed_step="f(3) = 6",
    ),
    "refine_all": PROMPTS.refine(
        PROBLEM,
        RATIONALE,
        ATTEMPT,
        "no_answer",
        truth="4.5",
        examples=[example(), example()],
        instruction="Answer in \\boxed{}.",
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_default_prompts_are_those_on_file(name: str) -> None:
    """A change of a prompt changes what a run is: it is made on purpose, in the golden file too."""
    assert CASES[name] + "\n" == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_without_a_rationale_nothing_speaks_of_one() -> None:
    prompt = PROMPTS.refine(PROBLEM, "", ATTEMPT, "wrong")
    assert ATTEMPT in prompt and "used so far" not in prompt and "that solution" not in prompt


def test_the_blind_variant_shows_nothing_of_the_attempt() -> None:
    blind = PROMPTS.refine(PROBLEM, RATIONALE, "", "wrong")
    assert blind == PROMPTS.refine(
        PROBLEM, RATIONALE, "", "correct", score="1", error_kind="setup", failed_step="f(3) = 6"
    )
    assert not {"attempt", "wrong", "verdict"} & set(blind.lower().split())


def test_the_truth_is_shown_only_when_it_is_given() -> None:
    assert "4.5" not in PROMPTS.refine(PROBLEM, RATIONALE, ATTEMPT, "wrong")
    assert "4.5" in PROMPTS.refine(PROBLEM, RATIONALE, ATTEMPT, "wrong", truth="4.5")


def test_the_digest_follows_the_text(tmp_path: Path) -> None:
    (tmp_path / "problem.txt").write_text("{problem}")
    first = load_prompts(str(tmp_path)).digest
    assert first == load_prompts(str(tmp_path)).digest
    (tmp_path / "problem.txt").write_text("{problem}!")
    assert first != load_prompts(str(tmp_path)).digest


def test_a_folder_needs_only_what_is_used(tmp_path: Path) -> None:
    (tmp_path / "student.txt").write_text("Q: {problem}\nA:")
    prompts = load_prompts(str(tmp_path))
    assert prompts.student("1+1?") == "Q: 1+1?\nA:"
    with pytest.raises(DataError, match=r"no refine\.txt"):
        prompts.refine("a", "b", "c", "wrong")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds none of"),
        ({"problem.txt": b"no placeholder"}, "lacks {{ problem }}"),
        ({"refine.txt": b"{problem}"}, "lacks {{ rationale }}"),
        ({"problem.txt": b"\xff\xfe{problem}"}, "not UTF-8"),
        ({"problem.txt": b"{{ problem }}\0"}, "zero byte"),
    ],
)
def test_a_bad_folder_is_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_prompts(str(tmp_path))


def test_a_mark_of_byte_order_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "problem.txt").write_bytes(b"\xef\xbb\xbfSolve. {{ problem }}\r\n")
    assert load_prompts(str(tmp_path)).texts()["problem"].startswith("Solve.")


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "problem.txt").symlink_to("nowhere")
    with pytest.raises(DataError, match="leads nowhere"):
        load_prompts(str(tmp_path))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"no prompt set 'defualt'(.|\n)*default"):
        load_prompts("defualt")


def test_a_template_knows_only_what_its_prompt_has(tmp_path: Path) -> None:
    (tmp_path / "student.txt").write_text("{{ problem }}\n{{ truth }}")
    with pytest.raises(
        ConfigError, match=r"student.txt, line 2: no placeholder is called 'truth'\n.*problem, instruction;"
    ):
        load_prompts(str(tmp_path))


def test_a_folder_in_the_syntax_of_earlier_versions_renders_as_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "refine.txt").write_text(
        "{problem}\n{#student_answer}\nTried{#rationale} after reading{/rationale} ({verdict}):\n{student_answer}\n{/student_answer}\n"
        "{^student_answer}\nNot tried.\n{/student_answer}\n{rationale} \\boxed{}"
    )
    prompts = load_prompts(str(tmp_path))
    assert prompts.refine("P", "R", "A", "wrong") == "P\nTried after reading (wrong):\nA\nR \\boxed{}"
    assert prompts.refine("P", "R", "", "wrong") == "P\nNot tried.\nR \\boxed{}"
    load_prompts(str(tmp_path))
    assert caplog.text.count("refine.txt: {name} is still read, but is written {{ name }} now") == 1


def test_prompts_that_were_cloned_hold_no_words_of_a_file_of_ours(tmp_path: Path) -> None:
    """A link in them is ours then, whoever chose its end; its words were sent to the teacher."""
    folder, shared = tmp_path / "clone/prompts", tmp_path / "shared"
    folder.mkdir(parents=True)
    shared.mkdir()
    (shared / "example.txt").write_text("{{ problem }} by a person\n")
    (folder / "problem.txt").write_text("{{ problem }}\n")
    (folder / "example.txt").symlink_to(shared / "example.txt")
    assert "by a person" in load_prompts(str(folder)).texts()["example"]
    (tmp_path / "id_rsa").write_text("a key of ours\n")
    (tmp_path / "clone/example.txt").symlink_to("../id_rsa")
    for end in ("../../id_rsa", "../example.txt"):
        (folder / "example.txt").unlink()
        (folder / "example.txt").symlink_to(end)
        with pytest.raises(ConfigError, match=r"is a link to a file outside of the prompts, .*id_rsa"):
            load_prompts(str(folder))
