"""Losses of one exit on a sample of positions, fused with the LM head so that no full logit tensor is ever held.

Both are means over N positions; a step's loss is their weighted mean over the exits (arXiv 2309.08968 equation 3:
L = 1/|B| sum over n in B of L_n). With z = W h, q = softmax(z):

- cross entropy against the data's next token y (the paper):      L_n = mean of -log q_y
- forward KL from the untouched base p (self-distillation):       L_n = mean of sum_v p_v log(p_v / q_v)
  p is stored as its k most likely tokens T and the mass of the rest, so the sum runs over T and one bucket:
      sum over v in T of p_v log(p_v / q_v) + p_r log(p_r / q_r),  p_r = 1 - sum_T p_v,  q_r = 1 - sum_T q_v
  It is 0 exactly where q agrees with p on T, and it never asks for q_r = 0, as renormalized top-k would.

The forward pass also computes the gradients, which every row needs anyway. It walks over chunks of rows, with
chunk x vocabulary numbers of memory instead of N x vocabulary. Two functions touch all logits, and `compiled()` fuses
them: each then reads the logits once, in the type of the matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from sorted_tuning.vocabulary import sample_vocabulary

CHUNK = 256
"""Rows of logits held together. Every product reads the whole head; from this size on, arithmetic bounds it."""

EPSILON = 1e-6
"""Least rest mass: fp32's softmax sum is not more accurate than this."""


def _log_sum_exp(z: torch.Tensor) -> torch.Tensor:
    """Of logits [R, V] -> f32 [R, 1]."""
    return torch.logsumexp(z.float(), -1, keepdim=True)


def _scaled_softmax(z: torch.Tensor, lse: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """softmax(z) times a factor per row [R, 1], in z's type."""
    return ((z.float() - lse).exp() * factor).to(z.dtype)


@dataclass(frozen=True)
class LogitKernels:
    """Functions over whole rows of logits."""

    log_sum_exp: Callable[[torch.Tensor], torch.Tensor] = _log_sum_exp
    scaled_softmax: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = _scaled_softmax


EAGER = LogitKernels()


def compiled() -> LogitKernels:
    """The same, fused by torch.compile: needs a C++ compiler on a CPU."""
    return LogitKernels(torch.compile(_log_sum_exp), torch.compile(_scaled_softmax))


RowLoss = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]
"""Takes logits [R, V] of a slice of rows; returns the summed loss and d loss / d logits [R, V]."""


def _ce_rows(labels: torch.Tensor, kernels: LogitKernels) -> RowLoss:
    """-log q_y; its gradient is q - onehot(y)."""

    def rows(z: torch.Tensor, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        y = labels[part].unsqueeze(1)
        lse = kernels.log_sum_exp(z)
        loss = (lse - z.gather(1, y)).sum()
        gradient = kernels.scaled_softmax(z, lse, torch.ones_like(lse))
        return loss, gradient.scatter_add_(1, y, torch.full_like(lse, -1.0, dtype=z.dtype))

    return rows


def _kl_rows(top_ids: torch.Tensor, top_p: torch.Tensor, kernels: LogitKernels) -> RowLoss:
    """KL over top-k and rest; its gradient is q_v - p_v on the top, q_v (1 - p_r / q_r) elsewhere."""

    def rows(z: torch.Tensor, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        ids, p = top_ids[part].long(), top_p[part].float()
        rest_p = (1 - p.sum(1, keepdim=True)).clamp_min(0)
        lse = kernels.log_sum_exp(z)
        log_q = z.gather(1, ids).float() - lse
        q = log_q.exp()
        rest_q = (1 - q.sum(1, keepdim=True)).clamp_min(EPSILON)
        loss = (torch.xlogy(p, p) - p * log_q).sum() + (torch.xlogy(rest_p, rest_p) - rest_p * rest_q.log()).sum()
        gradient = kernels.scaled_softmax(z, lse, 1 - rest_p / rest_q)
        # Not scatter_, which takes 300 times as long for numbers of 16 bits on a CPU.
        at = torch.arange(len(ids), device=ids.device).unsqueeze(1)
        return loss, gradient.index_put_((at, ids), (q - p).to(z.dtype))

    return rows


class _FusedHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rows: RowLoss) -> torch.Tensor:
        count = h.shape[0]
        total = torch.zeros((), dtype=torch.float32, device=h.device)
        grad_h = torch.empty_like(h) if ctx.needs_input_grad[0] else None
        grad_w = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for start in range(0, count, CHUNK):
            part = slice(start, min(start + CHUNK, count))
            loss, grad_z = rows(F.linear(h[part], weight, bias), part)
            total += loss
            if grad_h is not None:
                grad_h[part] = grad_z @ weight / count
            if grad_w is not None:
                grad_w += (grad_z.T @ h[part]).float() / count
        ctx.save_for_backward(grad_h, grad_w)
        ctx.weight_dtype = weight.dtype
        return total / count

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        grad_h, grad_w = ctx.saved_tensors
        return (
            None if grad_h is None else grad_h * grad.to(grad_h.dtype),
            None if grad_w is None else (grad_w * grad).to(ctx.weight_dtype),
            None,
            None,
        )


@dataclass(frozen=True)
class Sampling:
    """How a step samples the vocabulary (vocabulary.py): `size` tokens by order i64 [V], a random permutation."""

    order: torch.Tensor
    size: int


def ce_head_loss(
    h: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    kernels: LogitKernels = EAGER,
    sampling: Sampling | None = None,
) -> torch.Tensor:
    """Mean cross entropy of h [N, H] through head weight [V, H] against labels int64 [N]."""
    weight, bias, labels = _head(h, weight, labels, sampling)
    return _FusedHeadLoss.apply(h, weight, bias, _ce_rows(labels, kernels))


def kl_head_loss(
    h: torch.Tensor,
    weight: torch.Tensor,
    top_ids: torch.Tensor,
    top_p: torch.Tensor,
    kernels: LogitKernels = EAGER,
    sampling: Sampling | None = None,
) -> torch.Tensor:
    """Mean forward KL, in nats, of h [N, H] through weight [V, H] from a teacher's top-k (ids and true p [N, K])."""
    weight, bias, top_ids = _head(h, weight, top_ids, sampling)
    return _FusedHeadLoss.apply(h, weight, bias, _kl_rows(top_ids, top_p, kernels))


def _head(
    h: torch.Tensor, weight: torch.Tensor, taught: torch.Tensor, sampling: Sampling | None
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """The head's rows that are computed, their bias, and the taught ids as places among them."""
    sample = sample_vocabulary(taught, sampling.order, sampling.size) if sampling else None
    if sample is None:
        return weight.to(h.dtype), None, taught
    return weight[sample.ids].to(h.dtype), sample.bias.to(h.dtype), sample.place[taught.long()]


@torch.no_grad()
def kl_and_hits(
    h: torch.Tensor,
    weight: torch.Tensor,
    top_ids: torch.Tensor,
    top_p: torch.Tensor,
    kernels: LogitKernels = EAGER,
) -> torch.Tensor:
    """[summed KL, how often the most likely token is the teacher's], f32 [2]: the held-out scores of h [N, H]."""
    rows, sums = _kl_rows(top_ids, top_p, kernels), torch.zeros(2, device=h.device)
    for start in range(0, h.shape[0], CHUNK):
        part = slice(start, min(start + CHUNK, h.shape[0]))
        z = F.linear(h[part], weight)
        sums[1] += (z.argmax(-1) == top_ids[part, 0]).sum()
        sums[0] += rows(z, part)[0]
    return sums
