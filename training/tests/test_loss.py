"""The fused losses against the same formulas written with whole logit tensors and autograd."""

import pytest
import torch
from torch.nn import functional as F

from sorted_tuning.loss import ce_head_loss, kl_and_hits, kl_head_loss


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    h = torch.randn(600, 32, requires_grad=True)  # more rows than two chunks, not a multiple of one
    weight = (0.3 * torch.randn(200, 32)).requires_grad_()
    p = (2 * torch.randn(600, 200)).softmax(-1)
    return h, weight, p


def same(fused, naive, tensors):
    assert abs(fused - naive) < 1e-5
    for a, b in zip(torch.autograd.grad(fused, tensors), torch.autograd.grad(naive, tensors)):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_cross_entropy(inputs):
    h, weight, _ = inputs
    labels = torch.randint(200, (600,))
    same(ce_head_loss(h, weight, labels), F.cross_entropy(h @ weight.T, labels), (h, weight))


def test_kl_over_top_k_and_rest(inputs):
    h, weight, p = inputs
    top_p, top_ids = p.topk(8)
    q = (h @ weight.T).softmax(-1)
    top_q = q.gather(1, top_ids)
    rest_p, rest_q = 1 - top_p.sum(1), 1 - top_q.sum(1)
    naive = ((top_p * (top_p / top_q).log()).sum(1) + rest_p * (rest_p / rest_q).log()).mean()
    same(kl_head_loss(h, weight, top_ids, top_p), naive, (h, weight))


def test_kl_with_all_tokens_is_the_full_kl(inputs):
    h, weight, p = inputs
    top_p, top_ids = p.topk(200)
    naive = F.kl_div((h @ weight.T).log_softmax(-1), p, reduction="batchmean")
    same(kl_head_loss(h, weight, top_ids, top_p), naive, (h, weight))


def test_kl_is_zero_and_flat_where_the_student_is_the_teacher(inputs):
    h, weight, _ = inputs
    top_p, top_ids = (h @ weight.T).softmax(-1).detach().topk(8)
    loss = kl_head_loss(h, weight, top_ids, top_p)
    assert abs(loss) < 1e-5
    assert torch.autograd.grad(loss, h)[0].abs().max() < 1e-6


def test_held_out_scores(inputs):
    h, weight, p = inputs
    top_p, top_ids = p.topk(8)
    kl, hits = kl_and_hits(h, weight, top_ids, top_p)
    assert abs(kl / 600 - kl_head_loss(h, weight, top_ids, top_p)) < 1e-5
    assert hits == ((h @ weight.T).argmax(-1) == p.argmax(-1)).sum()


def test_frozen_head_gets_no_gradient(inputs):
    h, weight, p = inputs
    loss = kl_head_loss(h, weight.detach(), p.topk(8).indices, p.topk(8).values)
    loss.backward()
    assert weight.grad is None and h.grad is not None
