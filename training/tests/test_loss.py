"""The fused loss against the same formulas written with whole logit tensors and autograd."""

import pytest
import torch
from torch.nn import functional as F

from sorted_tuning.loss import Sampling, kl_and_hits, kl_head_loss
from sorted_tuning.vocabulary import sample_vocabulary


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    h = torch.randn(600, 32, requires_grad=True)  # more rows than two chunks, not a multiple of one
    weight = 0.3 * torch.randn(200, 32)
    p = (2 * torch.randn(600, 200)).softmax(-1)
    return h, weight, p


def same(fused, naive, h):
    assert abs(fused - naive) < 1e-5
    (a,), (b,) = torch.autograd.grad(fused, h), torch.autograd.grad(naive, h)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_kl_over_top_k_and_rest(inputs):
    h, weight, p = inputs
    top_p, top_ids = p.topk(8)
    q = (h @ weight.T).softmax(-1)
    top_q = q.gather(1, top_ids)
    rest_p, rest_q = 1 - top_p.sum(1), 1 - top_q.sum(1)
    naive = ((top_p * (top_p / top_q).log()).sum(1) + rest_p * (rest_p / rest_q).log()).mean()
    same(kl_head_loss(h, weight, top_ids, top_p), naive, h)


def test_kl_with_all_tokens_is_the_full_kl(inputs):
    h, weight, p = inputs
    top_p, top_ids = p.topk(200)
    naive = F.kl_div((h @ weight.T).log_softmax(-1), p, reduction="batchmean")
    same(kl_head_loss(h, weight, top_ids, top_p), naive, h)


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


def test_a_sample_holds_every_taught_token_once_and_weighs_the_others():
    order = torch.randperm(200)
    sample = sample_vocabulary(torch.tensor([[3, 7], [7, 199]]), order, 50)
    assert len(sample.ids.unique()) == 50
    assert sample.ids[sample.place[torch.tensor([3, 7, 199])]].tolist() == [3, 7, 199]
    assert sample.bias[:3].tolist() == [0, 0, 0]
    torch.testing.assert_close(sample.bias[3:].exp().sum(), torch.tensor(197.0))


def test_a_sample_that_taught_tokens_would_fill_is_none():
    with pytest.warns(UserWarning, match="head_sample: 50"):
        assert sample_vocabulary(torch.arange(26), torch.randperm(200), 50) is None
    assert sample_vocabulary(torch.arange(25), torch.randperm(200), 50) is not None


def test_the_loss_by_a_sampled_vocabulary_has_the_mean_of_the_whole_one(inputs):
    h, weight, p = inputs
    h = h[:20].detach().requires_grad_()
    top_p, top_ids = p[:20].topk(2)
    whole = kl_head_loss(h, weight, top_ids, top_p)
    drawn = [kl_head_loss(h, weight, top_ids, top_p, Sampling(torch.randperm(200), 100)) for _ in range(400)]
    assert abs(torch.stack(drawn).mean() - whole) < 0.02 * whole
    (expected,) = torch.autograd.grad(whole, h)
    mean = torch.stack([torch.autograd.grad(d, h)[0] for d in drawn]).mean(0)
    assert (mean - expected).norm() < 0.1 * expected.norm()
    assert drawn[0] != drawn[1]
