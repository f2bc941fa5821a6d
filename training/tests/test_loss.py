"""The fused losses against the same formulas written with whole logit tensors and autograd."""

import pytest
import torch
from torch.nn import functional as F

from sorted_tuning.loss import Sampling, ce_head_loss, kl_and_hits, kl_head_loss
from sorted_tuning.vocabulary import sample_vocabulary


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


@pytest.mark.parametrize("loss", ["kl", "ce"])
def test_losses_by_a_sampled_vocabulary_have_the_mean_of_the_whole_one(inputs, loss):
    h, weight, p = inputs
    h = h[:20].detach().requires_grad_()
    if loss == "kl":
        top_p, top_ids = p[:20].topk(2)
        run = lambda sampling=None: kl_head_loss(h, weight, top_ids, top_p, sampling=sampling)  # noqa: E731
    else:
        labels = p[:20].argmax(-1)
        run = lambda sampling=None: ce_head_loss(h, weight, labels, sampling=sampling)  # noqa: E731
    whole = torch.autograd.grad(run(), (h, weight))
    drawn = [run(Sampling(torch.randperm(200), 100)) for _ in range(400)]
    assert abs(torch.stack(drawn).mean() - run()) < 0.02 * run()
    mean = [torch.stack(g).mean(0) for g in zip(*(torch.autograd.grad(d, (h, weight)) for d in drawn))]
    for a, b in zip(mean, whole):
        assert (a - b).norm() < 0.1 * b.norm()
    assert drawn[0] != drawn[1]
