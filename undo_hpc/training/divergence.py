"""The distance between teacher and student over a part of the vocabulary, with its gradient in closed form.

Of each position the teacher's log-probabilities are known at its top k tokens and at the realised token (the one that stands in the text);
all other tokens together are one further bucket, the tail. So both distributions have k + 2 values that sum to one, and the distance
between them never exceeds that of the whole vocabularies (data processing inequality). With g_i = dD / d log q_i and G = sum g, and q_0
the student's tail:

    dD / dz_j = g_j - q_j G        where j is one of the k + 1 tokens
    dD / dz_j = q_j (g_0 / q_0 - G)    elsewhere

Without the tail, reverse divergence is made small by moving mass out of the top k, and forward divergence can be negative.
The generalised Jensen-Shannon divergence is that of GKD (arXiv 2306.13649).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch

LEAST_TAIL = (
    -16.0
)  # log of the least mass outside the teacher's tokens; a stored 0 would make reverse divergence infinite
_LEAST_REST = -60.0  # the same of the student, whose tail is exact
_ADVANTAGE = 10.0  # largest log ratio that a single token counts with
_PROBED = 16  # positions of a piece at which the whole distribution is looked at

# What is summed over positions while the loss is computed; `means` turns it into figures for the log.
FIGURES = ("scored", "divergence", "teacher_mass", "student_mass", "drift", "clipped", "counted", "cross_entropy", "probed", "overlap",
           "entropy")  # fmt: skip


@dataclass(frozen=True)
class Objective:
    """What scored positions are learned by.

    Attributes:
        loss: divergence; policy_gradient: of the realised token alone, with advantage log p - log q; fixed_advantage: a control
            without a teacher, which makes tokens less likely that the student itself found unlikely.
        beta: 0 forward, 1 reverse, between them generalised Jensen-Shannon divergence.
        clip: largest ratio of the student's present probability of a token to that when it was sampled.
        unlikely: below this probability a token counts as unlikely (fixed_advantage).
    """

    loss: Literal["divergence", "policy_gradient", "fixed_advantage"] = "divergence"
    beta: float = 0.0
    clip: float = 2.0
    unlikely: float = 0.1


@dataclass(frozen=True)
class Scored:
    """The teacher's scores of a micro-batch's positions, in the order of its targets, and the weights of both losses.

    Attributes:
        ids, log_p: the teacher's top k, without repeats; int64 and float32, shape (positions, k).
        own: teacher's log-probability of the realised token, shape (positions,).
        tail: log of the teacher's mass outside of both, shape (positions,).
        old: student's log-probability of the realised token when it was sampled; 0 in a text of the teacher.
        divergence, cross_entropy: weight of each loss; 0 leaves the position out.
        figures: running sums, shape (len(FIGURES),), float64.
    """

    ids: torch.Tensor
    log_p: torch.Tensor
    own: torch.Tensor
    tail: torch.Tensor
    old: torch.Tensor
    divergence: torch.Tensor
    cross_entropy: torch.Tensor
    objective: Objective
    figures: torch.Tensor

    def __len__(self) -> int:
        return len(self.own)

    def split(self, size: int) -> Iterator[Scored]:
        """Pieces of `size` positions; their figures go into the same sums."""
        names = [f.name for f in fields(self) if f.name not in ("objective", "figures")]
        for at in range(0, len(self), size):
            yield replace(self, **{name: getattr(self, name)[at : at + size] for name in names})


def means(sums: list[float]) -> dict[str, float]:
    """Figures for the log from the sums of all ranks; what was not measured is left out."""
    total = dict(zip(FIGURES, sums, strict=True))
    found: dict[str, float] = {}
    for count, names in (("scored", FIGURES[1:6]), ("counted", FIGURES[7:8]), ("probed", FIGURES[9:])):
        if total[count]:
            found |= {name: total[name] / total[count] for name in names}
    return found


def loss_and_gradient(
    log_probs: torch.Tensor, targets: torch.Tensor, scored: Scored, out: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted sum of both losses, and its gradient by the logits.

    Args:
        log_probs: of the student, shape (positions, words), float32 or float64.
        targets: realised tokens, shape (positions,); -100 where there is none, whose weights must be 0.
        out: where the gradient is written, of that shape; may be `log_probs` itself.
    """
    ids, token = scored.ids, targets.clamp(min=0)[:, None]
    _probe(log_probs, scored)
    log_q = torch.cat([log_probs.gather(1, ids), log_probs.gather(1, token)], 1)
    q = torch.exp(log_probs, out=out)
    q.scatter_(1, ids, 0.0).scatter_(1, token, 0.0)
    rest = q.sum(1, keepdim=True, dtype=log_q.dtype)
    log_q = torch.cat([log_q, rest.log().clamp(min=_LEAST_REST)], 1)
    log_p = torch.cat([scored.log_p, scored.own[:, None], scored.tail[:, None].clamp(min=LEAST_TAIL)], 1)
    log_p = log_p.to(log_q.dtype)
    listed = ids == token
    alone = ~listed.any(1, keepdim=True)  # else the realised token is one of the top k, where it counts once
    at_token = torch.cat([listed, alone], 1)
    tail = torch.full_like(alone, ids.shape[1] < log_probs.shape[1])
    real = torch.cat([torch.ones_like(listed), alone, tail], 1)
    value, g, g_rest = _by_objective(log_p, log_q, real, at_token, scored)

    weight, ce = (w.to(log_q.dtype) for w in (scored.divergence, scored.cross_entropy))
    g, g_rest = g * weight[:, None], g_rest * weight
    total = g.sum(1) + g_rest * rest[:, 0]
    q_listed = log_q[:, :-1].exp()
    inside = (
        g - total[:, None] * q_listed + ce[:, None] * torch.where(at_token, log_q[:, :-1].expm1(), q_listed)
    )
    q *= (g_rest - total + ce)[:, None].to(out.dtype)
    inside = inside.to(out.dtype)
    q.scatter_(1, token, inside[:, -1:]).scatter_(1, ids, inside[:, :-1])  # where it is listed, that stays
    _count(scored, targets, log_p, log_q, real, value)
    return (weight * value - ce * log_q[:, -2]).sum(), q


def _by_objective(
    log_p: torch.Tensor, log_q: torch.Tensor, real: torch.Tensor, at_token: torch.Tensor, scored: Scored
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Value of each position, g of the listed tokens, shape (positions, k + 1), and g_0 / q_0 of the tail."""
    objective, beta = scored.objective, scored.objective.beta
    if objective.loss != "divergence":
        own = log_q[:, -2]
        ratio = own - scored.old
        if objective.loss == "policy_gradient":
            advantage = (own - log_p[:, -2]).clamp(-_ADVANTAGE, _ADVANTAGE)
            factor = ratio.exp().clamp(max=objective.clip) * advantage
        else:
            unlikely = (scored.old < math.log(objective.unlikely)) & (ratio > -math.log(objective.clip))
            factor = unlikely.to(log_q.dtype)
        return factor * own, factor[:, None] * at_token, torch.zeros_like(factor)
    p, q = log_p.exp() * real, log_q.exp() * real
    if beta == 0:
        difference = (log_p - log_q) * real
        return (p * difference).sum(1), -p[:, :-1], -difference[:, -1].exp() * real[:, -1]
    if beta == 1:
        difference = (log_q - log_p) * real
        return (q * difference).sum(1), (q * difference)[:, :-1], difference[:, -1]
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    difference = (1 - beta) * (log_q - log_m) * real
    value = beta * (p * (log_p - log_m)).sum(1) + (q * difference).sum(1)
    return value, (q * difference)[:, :-1], difference[:, -1]


def _probe(log_probs: torch.Tensor, scored: Scored) -> None:
    """Overlap of the top k and the student's entropy, over a few positions: each is a pass over all words."""
    few, k = log_probs[:_PROBED], scored.ids.shape[1]
    use = scored.divergence[:_PROBED] > 0
    if k == 0:
        return
    top = few.topk(k, 1).indices
    shared = (top[:, :, None] == scored.ids[:_PROBED, None]).any(2).sum(1) / k
    entropy = -few.exp().mul_(few).sum(1)
    _add(scored, "probed", use)
    _add(scored, "overlap", shared * use)
    _add(scored, "entropy", entropy * use)


def _count(
    scored: Scored,
    targets: torch.Tensor,
    log_p: torch.Tensor,
    log_q: torch.Tensor,
    real: torch.Tensor,
    value: torch.Tensor,
) -> None:
    """Adds to the figures."""
    use, counted, sampled = scored.divergence > 0, targets != -100, scored.old < 0
    ratio = (log_q[:, -2] - scored.old) * sampled
    _add(scored, "scored", use)
    _add(scored, "divergence", value * use)
    _add(scored, "teacher_mass", (log_p.exp() * real)[:, :-1].sum(1) * use)
    _add(scored, "student_mass", (log_q.exp() * real)[:, :-1].sum(1) * use)
    _add(scored, "drift", -ratio * use)
    _add(scored, "clipped", (ratio > math.log(scored.objective.clip)) & use)
    _add(scored, "counted", counted)
    _add(scored, "cross_entropy", -log_q[:, -2] * counted)


def _add(scored: Scored, name: str, values: torch.Tensor) -> None:
    scored.figures[FIGURES.index(name)] += values.detach().sum().to(scored.figures.dtype)


class _ScoredLoss(torch.autograd.Function):
    """The loss over logits that are all there; `answer_head` has it for those that never are."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, scored: Scored) -> torch.Tensor:
        """Computes the gradient while the probabilities are there."""
        exact = torch.promote_types(logits.dtype, torch.float32)
        log_probs = logits.log_softmax(1, dtype=exact)
        total, gradient = loss_and_gradient(log_probs, targets, scored, out=log_probs)
        ctx.save_for_backward(gradient.to(logits.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scales what forward kept."""
        return ctx.saved_tensors[0] * scale[0], None, None


def scored_loss(logits: torch.Tensor, targets: torch.Tensor, scored: Scored) -> torch.Tensor:
    """The weighted sum of divergence and cross-entropy over logits of shape (positions, words), a scalar in nats."""
    total: torch.Tensor = _ScoredLoss.apply(logits, targets, scored)
    return total
