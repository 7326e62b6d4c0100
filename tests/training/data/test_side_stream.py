"""Encoding beside the training: on a CPU nothing changes; on a GPU only the GPU waits."""

import pytest
import torch

from reelwright.training.data.side_stream import side_stream
from tests.training.batches import make_batch


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_on_a_cpu_nothing_is_waited_for(device):
    with side_stream(device) as ready:
        assert ready() is None
    batch = make_batch(2)
    assert batch.to(torch.device("cpu")).latents is batch.latents


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_batch_that_a_gpu_makes_beside_the_training_is_whole():
    """The host is through long before the side stream is, and the reader still gets what that stream makes."""
    device, batch = torch.device("cuda", 0), make_batch(2)
    torch.cuda.synchronize()
    with side_stream(device) as ready:
        torch.cuda._sleep(10**9)
        batch.latents = torch.full((2, 16, 3, 4, 4), 7.0, device=device)
        batch.ready = ready()
    assert batch.ready is not None
    assert not batch.ready.query()
    moved = batch.to(device)
    assert moved.ready is None
    assert moved.latents.mean().item() == 7
