"""The CPU's RMS norm against PyTorch's own."""

import torch
from torch.nn import functional as F

from reelwright.model.norms import EPS, HeadNorm, rms_norm


def test_value_and_gradient_are_those_of_pytorch():
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(rms_norm(x), F.rms_norm(x, (8,), None, EPS))
    assert torch.autograd.gradcheck(rms_norm, (x,))


def test_zeros_have_a_finite_gradient():
    x = torch.zeros(2, 8, requires_grad=True)
    rms_norm(x).sum().backward()
    assert x.grad.isfinite().all()


def test_compiled_is_eager():
    norm, x = HeadNorm(8), torch.randn(2, 3, 8)
    compiled = torch.compile(norm, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), norm(x))
