"""The grouped search against torch.topk."""

import pytest
import torch

from sorted_tuning.topk import top_k


@pytest.mark.parametrize(("n", "k"), [(4096, 32), (4096, 1), (1000, 8), (2048, 32), (64, 64)])
def test_top_k_equals_torch_topk(n, k):
    torch.manual_seed(n + k)
    x = torch.randn(50, n)
    x[0, :100] += 10  # a whole group, and more, above all others
    values, indices = top_k(x, k)
    torch.testing.assert_close(values, x.topk(k).values)
    torch.testing.assert_close(x.gather(1, indices), values)


def test_top_k_of_equal_numbers_names_each_place_once():
    _, indices = top_k(torch.zeros(3, 4096), 32)
    assert all(len(set(row.tolist())) == 32 for row in indices)
