"""The loss on the teacher's scores: equal to the divergence of whole vocabularies where all words are listed, and below it elsewhere."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from undo_hpc.training.answer_head import AnswerHead
from undo_hpc.training.divergence import FIGURES, Objective, Scored, means, scored_loss

WORDS = 50
BETAS = [0.0, 0.5, 0.9, 1.0]


def case(n: int, k: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, **objective: object):
    """Student's logits, teacher's log-probabilities, targets and the scores at the teacher's top k."""
    torch.manual_seed(seed)
    logits = (2 * torch.randn(n, WORDS, dtype=dtype)).requires_grad_()
    teacher = (2 * torch.randn(n, WORDS, dtype=torch.float64)).log_softmax(1)
    targets = torch.randint(0, WORDS, (n,))
    return logits, teacher, targets, scores_of(teacher, targets, k, **objective)


def scores_of(
    teacher: torch.Tensor, targets: torch.Tensor, k: int, *, ce: float = 0.0, **objective: object
) -> Scored:
    top = teacher.topk(k, 1)
    rows = torch.arange(len(targets))
    outside = teacher.clone()
    outside[rows[:, None], top.indices] = -torch.inf
    outside[rows, targets] = -torch.inf
    ones = torch.ones(len(targets), dtype=torch.float64)
    return Scored(
        ids=top.indices,
        log_p=top.values,
        own=teacher[rows, targets],
        tail=outside.logsumexp(1),
        old=0 * ones,
        divergence=(1 - ce) * ones,
        cross_entropy=ce * ones,
        objective=Objective(**objective),
        figures=torch.zeros(len(FIGURES), dtype=torch.float64),
    )


def full_divergence(teacher: torch.Tensor, log_q: torch.Tensor, beta: float) -> torch.Tensor:
    """Of whole vocabularies, as arXiv 2306.13649 defines it; its ends are forward and reverse divergence."""
    p, q = teacher.exp(), log_q.exp()
    if beta in (0.0, 1.0):
        return (q * (log_q - teacher) if beta else p * (teacher - log_q)).sum()
    log_m = (beta * p + (1 - beta) * q).log()
    return beta * (p * (teacher - log_m)).sum() + (1 - beta) * (q * (log_q - log_m)).sum()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("ce", [0.0, 0.5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_all_words_listed_is_the_full_divergence_and_gradient(beta, ce, dtype, tolerance) -> None:
    logits, teacher, targets, scored = case(12, WORDS, dtype=dtype, beta=beta, ce=ce)
    log_q = logits.log_softmax(1)
    plain = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    wanted = (1 - ce) * full_divergence(teacher.to(dtype), log_q, beta) + ce * plain
    found = scored_loss(logits, targets, scored)
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance * 10)
    one, other = (torch.autograd.grad(loss, logits)[0] for loss in (found, wanted))
    torch.testing.assert_close(one, other, rtol=tolerance * 10, atol=tolerance * 10)


@pytest.mark.parametrize("k", [1, 8, 49])
@pytest.mark.parametrize("beta", BETAS)
def test_the_gradient_is_that_of_the_value(k: int, beta: float) -> None:
    """Finite differences; the realised token stands among the top k in some rows and not in others."""
    logits, teacher, targets, scored = case(4, k, beta=beta, ce=0.3)
    targets[0], targets[1] = teacher[0].argmax(), teacher[1].argmin()
    scored = scores_of(teacher, targets, k, beta=beta, ce=0.3)
    assert torch.autograd.gradcheck(lambda z: scored_loss(z, targets, scored), logits, eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("beta", BETAS)
def test_equal_distributions_cost_nothing(beta: float) -> None:
    logits, _, targets, _ = case(8, 8)
    scored = scores_of(logits.detach().log_softmax(1), targets, 8, beta=beta)
    loss = scored_loss(logits, targets, scored)
    gradient = torch.autograd.grad(loss, logits)[0]
    assert abs(loss.item()) < 1e-12 and gradient.abs().max() < 1e-12
    shifted = replace(scored, **{n: getattr(scored, n).roll(1, 0) for n in ("ids", "log_p", "own", "tail")})
    assert scored_loss(logits, targets, shifted) > 0.5  # scores of another position are no scores of this one


@pytest.mark.parametrize("beta", BETAS)
def test_less_is_known_of_fewer_tokens_and_never_more(beta: float) -> None:
    for seed in range(40):
        logits, teacher, targets, _ = case(3, 1, seed=seed)
        values = [
            scored_loss(logits, targets, scores_of(teacher, targets, k, beta=beta)).item()
            for k in (1, 4, 16, 50)
        ]
        assert values == sorted(values) or max(a - b for a, b in itertools.pairwise(values)) < 1e-12
        assert values[0] > 0
        assert values[-1] == pytest.approx(
            full_divergence(teacher, logits.log_softmax(1), beta).item(), abs=1e-9
        )


def test_a_certain_teacher_is_cross_entropy() -> None:
    logits, teacher, targets, _ = case(8, 1)
    certain = torch.full_like(teacher, -torch.inf)
    certain[torch.arange(8), targets] = 0.0
    loss = scored_loss(logits, targets, scores_of(certain, targets, 1))
    torch.testing.assert_close(
        loss, torch.nn.functional.cross_entropy(logits, targets, reduction="sum"), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 1e-4), (torch.bfloat16, 0.1)]
)
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_in_pieces_it_is_the_same(dtype, tolerance, beta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undo_hpc.training.answer_head._CHUNK_LOGITS", 0)  # pieces of 128
    _, _, targets, scored = case(300, 8, beta=beta, ce=0.25)
    targets[::7] = -100
    weights = (targets != -100).double()
    scored = replace(scored, divergence=weights * 0.75, cross_entropy=weights * 0.25)
    torch.manual_seed(1)
    head = torch.nn.Linear(16, WORDS, bias=False, dtype=dtype)
    hidden = torch.randn(300, 16, dtype=dtype, requires_grad=True)
    plain = scored_loss(head(hidden), targets, scored)
    wanted = torch.autograd.grad(plain, (hidden, head.weight))
    sums = scored.figures.tolist()
    scored.figures.zero_()
    head.__class__ = AnswerHead
    head.targets, head.scored = targets, scored
    loss = head(hidden).sum()
    got = torch.autograd.grad(loss, (hidden, head.weight))
    torch.testing.assert_close(loss.double(), plain.double(), rtol=tolerance, atol=tolerance)
    for one, other in zip(got, wanted, strict=True):
        assert (one - other).abs().max() < tolerance * other.abs().max()
    probed = FIGURES.index("probed")  # a few positions of each piece
    assert scored.figures[:probed].tolist() == pytest.approx(sums[:probed], rel=tolerance)


def test_one_token_alone_pulls_by_its_log_ratio() -> None:
    logits, _teacher, targets, scored = case(6, 0, loss="policy_gradient", clip=2.0)
    log_q = logits.log_softmax(1)[torch.arange(6), targets]
    scored = replace(scored, old=log_q.detach() - torch.tensor([0.0, 5.0, 0.1, 0.0, 5.0, -0.2]))
    advantage = log_q.detach() - scored.own
    ratio = (log_q.detach() - scored.old).exp().clamp(max=2.0)
    wanted = torch.autograd.grad((ratio * advantage * log_q).sum(), logits)[0]
    got = torch.autograd.grad(scored_loss(logits, targets, scored), logits)[0]
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)
    assert means(scored.figures.tolist())["clipped"] == pytest.approx(2 / 6)


def test_the_control_without_teacher_lowers_unlikely_tokens_only() -> None:
    logits, _, targets, scored = case(3, 0, loss="fixed_advantage", unlikely=0.1)
    with torch.no_grad():
        logits[2, targets[2]] = logits[2].min() - 6.0  # whatever the random numbers of this machine are
    own = logits.log_softmax(1)[torch.arange(3), targets].detach()
    scored = replace(scored, old=torch.stack([own[0].clamp(max=-3), own[1] * 0 - 0.1, own[2] + 2]))
    assert (
        own[2] + 2 < -2.5
    )  # unlikely, too, and by now less than half as likely as when it was sampled: enough
    gradient = torch.autograd.grad(scored_loss(logits, targets, scored), logits)[0]
    pulls = gradient[torch.arange(3), targets]
    assert (
        pulls[0] > 0 and pulls[1] == 0 and pulls[2] == 0
    )  # a step against the gradient makes a token less likely


@pytest.mark.parametrize("with_tail", [True, False])
def test_the_tail_is_why_mass_does_not_leave_the_listed_tokens(with_tail: bool) -> None:
    """A bandit of three tokens, of which the teacher's best is known. Reverse divergence without the tail is least where the student
    never takes it."""
    teacher = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log()
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0])
    for _ in range(600):
        if with_tail:
            loss = scored_loss(logits, targets, scores_of(teacher, targets, 1, beta=1.0))
        else:
            log_q = logits.log_softmax(1)[0, 0]
            loss = log_q.exp() * (log_q - teacher[0, 0])
        gradient = torch.autograd.grad(loss, logits)[0]
        logits = (logits.detach() - 0.2 * gradient).requires_grad_()
    learned = logits.softmax(1)[0, 0].item()
    assert (abs(learned - 0.7) < 0.01) == with_tail
