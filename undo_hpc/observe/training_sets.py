"""A run's data in the shapes that other trainers read, for any iteration at any time: `undo-hpc export`.

Shapes: TRL's dataset formats (huggingface.co/docs/trl/dataset_formats), axolotl's `chat_template` (docs.axolotl.ai), LLaMA-Factory's
`sharegpt` with OpenAI tags (its data/README.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undo_hpc.control.finished import require_current
from undo_hpc.data.distilled import read_distilled
from undo_hpc.data.formats import (
    axolotl_yaml,
    llama_factory_info,
    to_messages,
    to_preference,
    to_prompt_completion,
)
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.method.pairs import Left, Pair, make_pairs
from undo_hpc.observe.attempts import answered
from undo_hpc.pipeline.layout import distilled_files
from undo_hpc.pipeline.results import require_outputs
from undo_hpc.pipeline.run import Run, require_own_folders
from undo_hpc.prompts import load_prompts
from undo_hpc.records import Attempt, Example
from undo_hpc.stages.prepare import prepared_digest
from undo_hpc.storage.atomic import write_bytes, write_json, write_text
from undo_hpc.storage.shards import dump_rows
from undo_hpc.system.ownership import require_own_way

ROWS = "train.jsonl"
_MARK = ".undo-hpc-export"  # which says that the files beside it are ours, and may be replaced
MESSAGES = "messages.jsonl"  # preference pairs as axolotl and LLaMA-Factory read them
Row = dict[str, Any]


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, the iteration, rows, and what a person should know."""

    folder: Path
    iteration: int
    rows: int
    notes: tuple[str, ...] = ()


def export(run: Run, name: str, iteration: int | None = None, out: Path | None = None) -> Exported:
    """Writes the distilled set of an iteration, or its preference pairs, into a folder.

    Args:
        name: one of FORMATS.
        iteration: default: the latest with a distilled set.
        out: the folder, which must be new, empty, or hold an earlier export (with its mark); default: in the run directory.

    Raises:
        ConfigError: there is no such iteration, or the folder holds other files, or another user's link stands in its place.
        DataError: there is nothing to write.
        EvidenceError, StorageError: a file that is read has changed since its manifest was written.
    """
    there = [k for k in run.layout.iterations() if distilled_files(run.layout.iteration(k).distilled)]
    if iteration is None and there:
        iteration = there[-1]
    if iteration is None or iteration not in there:
        raise ConfigError(
            f"iteration {iteration} has no distilled set"
            if iteration is not None
            else "there is no distilled set yet",
            hint=f"iterations with one: {', '.join(map(str, there)) or 'none so far'}",
        )
    folder = out or run.layout.exported(name, iteration)
    if out is None:
        require_own_folders(run.layout)
    else:
        require_own_way(folder)
    _require_free(folder, is_ours=out is None or (folder / _MARK).is_file())
    require_current(run, iteration)
    require_outputs(run, iteration, "merge")
    if out is not None:
        write_text(folder / _MARK, "")
    return FORMATS[name](run, iteration, folder)


def _require_free(folder: Path, *, is_ours: bool) -> None:
    known = {ROWS, MESSAGES, "axolotl.yaml", "dataset_info.json", _MARK} if is_ours else set[str]()
    if folder.exists() and (not folder.is_dir() or any(path.name not in known for path in folder.iterdir())):
        raise ConfigError(
            f"{folder} holds other files, or an export from before 0.2 (without {_MARK})",
            hint=f"name a folder that is new or empty (--out); or, where an export is to be replaced: touch {folder / _MARK}",
        )


class _Prompts:
    """The student's user turn and system prompt, as in training."""

    def __init__(self, run: Run) -> None:
        self._config = run.config.student
        self._prompts = load_prompts(self._config.prompt)

    def of(self, problem: str) -> dict[str, str]:
        """Arguments of the shapes in `data.formats`."""
        turn = self._prompts.student(problem, self._config.instruction)
        return {"prompt": turn, "system_prompt": self._config.system_prompt}


def rows_of(run: Run, iteration: int, shape: Callable[..., Row] = to_messages) -> list[Row]:
    """The distilled set of an iteration in one of the shapes of `data.formats`. Raises DataError where there is none."""
    prompts = _Prompts(run)
    return [
        shape(e, **prompts.of(e.problem)) for e in read_distilled(run.layout.iteration(iteration).distilled)
    ]


def _chat(run: Run, iteration: int, folder: Path) -> Exported:
    return _write(folder, iteration, rows_of(run, iteration))


def _trl(run: Run, iteration: int, folder: Path) -> Exported:
    note = "for TRL's SFTTrainer, which then learns the completion alone, as our training does"
    return _write(folder, iteration, rows_of(run, iteration, to_prompt_completion), note)


def _axolotl(run: Run, iteration: int, folder: Path) -> Exported:
    rows = rows_of(run, iteration)
    write_text(folder / "axolotl.yaml", axolotl_yaml(folder.resolve() / ROWS))
    return _write(folder, iteration, rows, "axolotl.yaml has the lines for axolotl's configuration")


def _llama_factory(run: Run, iteration: int, folder: Path) -> Exported:
    rows = rows_of(run, iteration)
    write_json(folder / "dataset_info.json", llama_factory_info("undo", ROWS))
    return _write(
        folder, iteration, rows, f"for LLaMA-Factory: dataset_dir: {folder.resolve()}, dataset: undo"
    )


def _preference(run: Run, iteration: int, folder: Path) -> Exported:
    for stage in ("generate", "evaluate"):
        require_outputs(run, iteration, stage)
    prepared_digest(run)
    left = Left()
    problems: dict[str, Example] = {}
    pairs = list(_pairs(run, iteration, problems, left))
    why = "; ".join(f"{count:,} {reason}" for reason, count in left.reasons.most_common())
    if not pairs:
        raise DataError(
            f"iteration {iteration} has no wrong answer beside a right one (left out: {why or 'nothing'})",
            hint="the student's answers to the training problems are needed (evaluate.train_predictions), or wrong attempts of the teacher",
        )
    prompts = _Prompts(run)
    shapes: dict[str, list[Row]] = {ROWS: [], MESSAGES: []}
    for pair in pairs:
        given = prompts.of(problems[pair.problem_id].problem)
        more = {"id": pair.problem_id, "chosen_from": pair.chosen_from, "rejected_from": pair.rejected_from}
        for name, apart in ((ROWS, True), (MESSAGES, False)):
            shapes[name].append(to_preference(pair.chosen, pair.rejected, apart=apart, **given) | more)
    write_bytes(folder / MESSAGES, dump_rows(shapes[MESSAGES]))
    write_text(folder / "axolotl.yaml", axolotl_yaml(folder.resolve() / MESSAGES, preference=True))
    write_json(folder / "dataset_info.json", llama_factory_info("undo_preference", MESSAGES, ranking=True))
    notes = [
        f"{ROWS}: for TRL's DPOTrainer; {MESSAGES}: for axolotl (axolotl.yaml) and LLaMA-Factory (dataset: undo_preference)"
    ]
    by = {who: sum(p.rejected_from == who for p in pairs) for who in ("student", "teacher")}
    notes.append(f"wrong answers of the student {by['student']:,}, of the teacher {by['teacher']:,}")
    notes += [f"in no pair: {why}"] * bool(why)
    return _write(folder, iteration, shapes[ROWS], *notes)


def _pairs(run: Run, iteration: int, problems: dict[str, Example], left: Left) -> Iterator[Pair]:
    """Pairs of the problems that the student learns from: no problem of validation or of a benchmark is ever among them."""
    learned: dict[str, list[str]] = defaultdict(list)
    for example in read_distilled(run.layout.iteration(iteration).distilled):
        problems.setdefault(example.id, example)
        if example.verdict == "correct":
            learned[example.id].append(example.teacher_solution)
    found: dict[str, dict[str, list[Attempt]]] = {"teacher": defaultdict(list), "student": defaultdict(list)}
    for row in answered(run, "generate", iteration):
        found["teacher"][row.problem.problem_id].append(row.attempt)
        _learn(
            problems, row.problem.problem_id, row.problem.idx, row.problem.problem, row.problem.ground_truth
        )
    for name in ("train", "diagnosis"):
        for row in answered(run, "evaluate", iteration, name):
            key = row.problem.problem_id
            if name == "train":
                _learn(problems, key, row.problem.idx, row.problem.problem, row.problem.ground_truth)
            if key in problems:
                found["student"][key].append(row.attempt)
    order = sorted(problems, key=lambda key: (problems[key].idx, key))
    yield from make_pairs(order, found["teacher"], found["student"], learned, left)


def _learn(problems: dict[str, Example], key: str, idx: int, problem: str, gt: str) -> None:
    if key not in problems:
        problems[key] = Example(key, idx, problem, "", gt, 0, 0, "", "wrong", 0)


def _write(folder: Path, iteration: int, rows: list[Row], *notes: str) -> Exported:
    write_bytes(folder / ROWS, dump_rows(rows))
    return Exported(folder, iteration, len(rows), notes)


FORMATS: dict[str, Callable[[Run, int, Path], Exported]] = {
    "chat": _chat,
    "trl": _trl,
    "axolotl": _axolotl,
    "llama-factory": _llama_factory,
    "preference": _preference,
}
