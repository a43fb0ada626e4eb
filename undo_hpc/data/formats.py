"""The shapes that others read. Pure: rows in, plain dictionaries out.

- Training sets for TRL (its "dataset formats and types"), axolotl (`chat_template`) and LLaMA-Factory (sharegpt with role and content tags).
- lm-evaluation-harness: `results_*.json` and `samples_*.jsonl` as version 0.4 writes them (lm_eval/result_schema.py,
  lm_eval/loggers/evaluation_tracker.py of github.com/EleutherAI/lm-evaluation-harness), so that its viewers read our runs.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from undo_hpc.records import Attempt, Example, Problem

METRIC, FILTER = "exact_match", "undo"
VERSION = 1  # of our tasks: raised when a benchmark's prompt or checker changes what a score means


Message = dict[str, str]


def _asked(prompt: str, system_prompt: str) -> list[Message]:
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": prompt}]


def _answered(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _about(example: Example) -> dict[str, Any]:
    """What stands beside the columns that a trainer reads; it ignores these."""
    return {"id": example.id, "gt": example.gt, "iteration": example.iteration}


def to_messages(example: Example, *, prompt: str = "", system_prompt: str = "") -> dict[str, Any]:
    """A distilled row as a conversation.

    Args:
        example: the row.
        prompt: the whole user's message where it is more than the problem (with the instruction, say).
        system_prompt: a system message before it; empty for none.

    Returns:
        `messages` (role, content), and `id`, `gt`, `iteration` beside it, which trainers ignore.
    """
    asked = _asked(prompt or example.problem, system_prompt)
    return {"messages": [*asked, _answered(example.teacher_solution)]} | _about(example)


def to_prompt_completion(example: Example, *, prompt: str = "", system_prompt: str = "") -> dict[str, Any]:
    """A distilled row as TRL's conversational prompt-completion type, of which only the completion is learned."""
    asked = _asked(prompt or example.problem, system_prompt)
    return {"prompt": asked, "completion": [_answered(example.teacher_solution)]} | _about(example)


def to_preference(
    chosen: str, rejected: str, *, prompt: str, system_prompt: str = "", apart: bool
) -> dict[str, Any]:
    """A preference pair of one prompt.

    Args:
        apart: True for TRL (`prompt`, and lists of messages), False for axolotl and LLaMA-Factory (`messages`, and a message each).
    """
    asked, good, bad = _asked(prompt, system_prompt), _answered(chosen), _answered(rejected)
    if apart:
        return {"prompt": asked, "chosen": [good], "rejected": [bad]}
    return {"messages": asked, "chosen": good, "rejected": bad}


def llama_factory_info(name: str, file_name: str, *, ranking: bool = False) -> dict[str, Any]:
    """LLaMA-Factory's dataset_info.json for one file in the same folder (its data/README.md): rows of `to_messages`, or preference
    pairs where `ranking` is set."""
    roles = {f"{role}_tag": role for role in ("user", "assistant", "system")}
    columns = ("messages", "chosen", "rejected") if ranking else ("messages",)
    info: dict[str, Any] = {
        "file_name": file_name,
        "formatting": "sharegpt",
        "columns": {column: column for column in columns},
        "tags": {"role_tag": "role", "content_tag": "content"} | roles,
    }
    return {name: info | ({"ranking": True} if ranking else {})}


def axolotl_yaml(file: Path, *, preference: bool = False) -> str:
    """The lines of an axolotl configuration that read a file of `to_messages` rows, or of preference pairs."""
    path = json.dumps(str(file))
    if not preference:
        kind = ["    type: chat_template", '    roles_to_train: ["assistant"]', "    train_on_eos: turn"]
        return "\n".join(["datasets:", f"  - path: {path}", "    ds_type: json", *kind, ""])
    fields = [f"    field_{name}: {name}" for name in ("messages", "chosen", "rejected")]
    kind = ["    split: train", "    type: chat_template.default", *fields]
    return "\n".join(["rl: dpo", "datasets:", f"  - path: {path}", "    ds_type: json", *kind, ""])


def lm_eval_file_names(model: str, benchmark: str, when: datetime) -> tuple[str, str]:
    """Where the harness would put results and samples, below its output folder, with '/' between folder and file."""
    folder = re.sub(r'["<>:/|\\?*\[\]]+', "__", model)
    stamp = when.replace(tzinfo=None).isoformat().replace(":", "-")
    return f"{folder}/results_{stamp}.json", f"{folder}/samples_{benchmark}_{stamp}.jsonl"


def lm_eval_samples(
    problems: Sequence[Problem],
    attempts: Iterable[Attempt],
    *,
    prompts: Mapping[str, str] | None = None,
    generation: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The lines of `samples_BENCHMARK_*.jsonl`, one a problem that was answered, in the benchmark's order.

    Args:
        problems: the benchmark; `doc_id` is the position in it.
        attempts: the student's answers; several of one problem are repeats, and its score is their mean (pass@1).
        prompts: what the student was given, by problem id; the bare problem where not known.
        generation: the sampling settings.
    """
    answers: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        answers[attempt.problem_id].append(attempt)
    rows = []
    for doc_id, problem in enumerate(problems):
        given = sorted(answers.get(problem.problem_id, ()), key=lambda a: a.attempt)
        if not given:
            continue
        doc = {
            "id": problem.problem_id,
            "problem": problem.problem,
            "answer": problem.ground_truth,
            "source": problem.source,
            "idx": problem.idx,
        }
        prompt = (prompts or {}).get(problem.problem_id, problem.problem)
        extracted = [a.answer for a in given]
        rows.append(
            {
                "doc_id": doc_id,
                "doc": doc,
                "target": problem.ground_truth,
                "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": dict(generation or {})}},
                "resps": [[a.text for a in given]],
                "filtered_resps": extracted if len(given) == 1 else [extracted],
                "filter": FILTER,
                "metrics": [METRIC],
                "doc_hash": _sha(json.dumps(doc, indent=2, ensure_ascii=False)),
                "prompt_hash": _sha(prompt),
                "target_hash": _sha(problem.ground_truth),
                METRIC: sum(a.verdict == "correct" for a in given) / len(given),
                "verdicts": [a.verdict for a in given],
                "finish_reasons": [a.finish_reason for a in given],
                "completion_tokens": [a.completion_tokens for a in given],
            }
        )
    return rows


def lm_eval_results(
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    model: str,
    titles: Mapping[str, str] | None = None,
    sizes: Mapping[str, int] | None = None,
    generation: Mapping[str, Any] | None = None,
    by_task: Mapping[str, Mapping[str, Any]] | None = None,
    started: datetime | None = None,
    seconds: float = 0.0,
    seed: int = 0,
    limit: int = 0,
    engine: str = "",
    chat_template: str = "",
    git_hash: str = "",
) -> dict[str, Any]:
    """What `results_*.json` holds, from the samples of each benchmark (`lm_eval_samples`).

    The score is `exact_match,undo`: the share that our checker found equal to the ground truth, with the standard error of
    the mean over problems, as the harness computes it.

    Args:
        by_task: the sampling settings of each benchmark, where they are not those of all (`generation`).
    """
    names = sorted(samples)
    scores = {name: [float(row[METRIC]) for row in samples[name]] for name in names}
    chosen = dict(generation or {})
    digests = {
        n: _sha("".join(r["doc_hash"] + r["prompt_hash"] + r["target_hash"] for r in samples[n]))
        for n in names
    }
    return {
        "results": {
            name: {
                "name": name,
                "alias": (titles or {}).get(name, name),
                "sample_len": len(scores[name]),
                f"{METRIC},{FILTER}": math.fsum(scores[name]) / len(scores[name])
                if scores[name]
                else math.nan,
                f"{METRIC}_stderr,{FILTER}": _standard_error(scores[name]),
            }
            for name in names
        },
        "group_subtasks": {},
        "configs": {
            name: {
                "task": name,
                "output_type": "generate_until",
                "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": True}],
                "generation_kwargs": dict((by_task or {}).get(name, chosen)),
                "num_fewshot": 0,
                "repeats": max((len(row["resps"][0]) for row in samples[name]), default=1),
                "metadata": {"version": VERSION},
            }
            for name in names
        },
        "versions": dict.fromkeys(names, VERSION),
        "n-shot": dict.fromkeys(names, 0),
        "higher_is_better": {name: {METRIC: True} for name in names},
        "n-samples": {
            name: {"original": (sizes or {}).get(name, len(scores[name])), "effective": len(scores[name])}
            for name in names
        },
        "config": {
            "model": engine or "undo-hpc",
            "model_args": {"pretrained": model},
            "batch_size": "auto",
            "device": None,
            "limit": limit or None,
            "bootstrap_iters": 0,
            "gen_kwargs": chosen,
            "random_seed": seed,
        },
        "git_hash": git_hash,
        "date": (started or datetime.now(UTC)).timestamp(),
        "task_hashes": digests,
        "model_source": engine or "undo-hpc",
        "model_name": model,
        "model_name_sanitized": lm_eval_file_names(model, "", datetime.min)[0].partition("/")[0],
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": None,
        "chat_template": chat_template or None,
        "chat_template_sha": _sha(chat_template) if chat_template else None,
        "total_evaluation_time_seconds": str(seconds),
    }


def _standard_error(scores: Sequence[float]) -> float | str:
    """Sample standard deviation over sqrt(n); 'N/A' below two items, as the harness writes it."""
    if len(scores) < 2:
        return "N/A"
    mean = math.fsum(scores) / len(scores)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in scores) / (len(scores) - 1) / len(scores))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
