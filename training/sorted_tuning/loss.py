"""The loss of one exit on a sample of positions, fused with the LM head so that no full logit tensor is ever held.

A step's loss is the weighted mean over the exits (arXiv 2309.08968 equation 3: L = 1/|B| sum over n in B of L_n).
L_n is the forward KL from the untouched base p (self-distillation), a mean over N positions. With q = softmax(W h):

    L_n = mean of sum_v p_v log(p_v / q_v)

p is stored as its k most likely tokens T and the mass of the rest, so the sum runs over T and one bucket:

    sum over v in T of p_v log(p_v / q_v) + p_r log(p_r / q_r),  p_r = 1 - sum_T p_v,  q_r = 1 - sum_T q_v

It is 0 exactly where q agrees with p on T, and it never asks for q_r = 0, as renormalized top-k would.

The forward pass also computes the gradients, which every row needs anyway. It walks over chunks of rows, with
chunk x vocabulary numbers of memory instead of N x vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from sorted_tuning.vocabulary import sample_vocabulary

CHUNK = 256
"""Rows of logits held together. Every product reads the whole head; from this size on, arithmetic bounds it."""

EPSILON = 1e-6
"""Least rest mass: fp32's softmax sum is not more accurate than this."""


def _kl_rows(z: torch.Tensor, top_ids: torch.Tensor, top_p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The KL over top-k and rest, summed over rows of logits z [R, V], and its gradient [R, V] by z, in z's type.

    The gradient is q_v - p_v on the top, q_v (1 - p_r / q_r) elsewhere.
    """
    ids, p = top_ids.long(), top_p.float()
    rest_p = (1 - p.sum(1, keepdim=True)).clamp_min(0)
    lse = torch.logsumexp(z.float(), -1, keepdim=True)
    log_q = z.gather(1, ids).float() - lse
    q = log_q.exp()
    rest_q = (1 - q.sum(1, keepdim=True)).clamp_min(EPSILON)
    loss = (torch.xlogy(p, p) - p * log_q).sum() + (torch.xlogy(rest_p, rest_p) - rest_p * rest_q.log()).sum()
    gradient = ((z.float() - lse).exp() * (1 - rest_p / rest_q)).to(z.dtype)
    # Not scatter_, which takes 300 times as long for numbers of 16 bits on a CPU.
    at = torch.arange(len(ids), device=ids.device).unsqueeze(1)
    return loss, gradient.index_put_((at, ids), (q - p).to(z.dtype))


class _FusedHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        h: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        top_ids: torch.Tensor,
        top_p: torch.Tensor,
    ) -> torch.Tensor:
        count = h.shape[0]
        total = torch.zeros((), dtype=torch.float32, device=h.device)
        grad_h = torch.empty_like(h)
        for start in range(0, count, CHUNK):
            part = slice(start, start + CHUNK)
            loss, grad_z = _kl_rows(F.linear(h[part], weight, bias), top_ids[part], top_p[part])
            total += loss
            grad_h[part] = grad_z @ weight / count
        ctx.save_for_backward(grad_h)
        return total / count

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        (grad_h,) = ctx.saved_tensors
        return grad_h * grad.to(grad_h.dtype), None, None, None, None


@dataclass(frozen=True)
class Sampling:
    """How a step samples the vocabulary (vocabulary.py): `size` tokens by order i64 [V], a random permutation."""

    order: torch.Tensor
    size: int


def kl_head_loss(
    h: torch.Tensor,
    weight: torch.Tensor,
    top_ids: torch.Tensor,
    top_p: torch.Tensor,
    sampling: Sampling | None = None,
) -> torch.Tensor:
    """Mean forward KL, in nats, of h [N, H] through the frozen head [V, H] from a teacher's top-k (ids, p [N, K])."""
    sample = sample_vocabulary(top_ids, sampling.order, sampling.size) if sampling else None
    if sample is None:
        return _FusedHeadLoss.apply(h, weight.to(h.dtype), None, top_ids, top_p)
    rows, bias = weight[sample.ids].to(h.dtype), sample.bias.to(h.dtype)
    return _FusedHeadLoss.apply(h, rows, bias, sample.place[top_ids.long()], top_p)


@torch.no_grad()
def kl_and_hits(h: torch.Tensor, weight: torch.Tensor, top_ids: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """[summed KL, how often the most likely token is the teacher's], f32 [2]: the held-out scores of h [N, H]."""
    sums = torch.zeros(2, device=h.device)
    for start in range(0, h.shape[0], CHUNK):
        part = slice(start, start + CHUNK)
        z = F.linear(h[part], weight)
        sums[0] += _kl_rows(z, top_ids[part], top_p[part])[0]
        sums[1] += (z.argmax(-1) == top_ids[part, 0]).sum()
    return sums
