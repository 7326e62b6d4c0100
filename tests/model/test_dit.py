"""What the network must do, at small sizes; against the published network's numbers where shared/ is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.parity import Vectors, base_errors
from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError
from reelwright.model.first_weights import fill_rows, fill_uniform
from tests.model.test_cache import CONFIG, inputs, stirred

VECTORS = Path(__file__).parents[3] / "shared" / "parity"


@pytest.fixture(scope="module")
def model() -> DiT:
    return stirred(CONFIG)


def test_the_published_size():
    with torch.device("meta"):
        model = DiT(DiTConfig())
    assert round(sum(p.numel() for p in model.parameters()) / 1e9, 3) == 13.581


def test_a_few_thousand_parameters_are_a_network_too():
    config = DiTConfig(
        hidden_size=8, depth=1, num_heads=1, in_channels=1, out_channels=1, caption_channels=2, adaln_tembed_dim=2,
        frequency_embedding_size=3, mlp_ratio=1, patch_size=(1, 1, 1),
    )  # fmt: skip
    model = DiT(config).init_weights(0)
    assert sum(p.numel() for p in model.parameters()) < 10_000
    out = model(torch.randn(1, 1, 1, 1, 3), torch.tensor([5.0]), torch.randn(1, 1, 2))
    assert torch.equal(out, torch.zeros(1, 1, 1, 1, 3))  # a new network's final layer is zero


@pytest.mark.parametrize(
    ("meta", "tensors", "says"),
    [
        ({}, {}, "says no cases"),
        ({"cases": {"out": {}}}, {}, "says no config"),
        ({"cases": {"out": {}}, "config": {"depth": "x"}}, {}, "config is not one of a network: depth"),
        ({"cases": {"out": {}}, "config": {"depth": 0}}, {}, "missing|depth"),
    ],
)
def test_vectors_that_lack_something_are_a_sentence(meta, tensors, says):
    with pytest.raises(ModelError, match=says):
        list(base_errors(Vectors(meta, tensors)))


def test_vectors_without_inputs_or_outputs_are_a_sentence(model):
    weights = {f"w.{name}": tensor for name, tensor in model.state_dict().items()}
    vectors = Vectors({"cases": {"out": {}}, "config": model.config.model_dump()}, weights)
    with pytest.raises(ModelError, match="has no tensor 'y'"):
        list(base_errors(vectors))


@pytest.mark.skipif(not VECTORS.exists(), reason=f"no parity vectors at {VECTORS}")
def test_numbers_of_the_published_network():
    files = [VECTORS / f"dit_dev{part}.safetensors" for part in ("", "_lora", "_lora_out")]
    command = [sys.executable, "-m", "benchmarks.parity", files[0], "--lora", files[1], "--expect", files[2]]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert found.returncode == 0, found.stdout + found.stderr
    assert float(re.search(r"parity.worst (\S+)", found.stdout)[1]) < 1e-5
    assert len(found.stdout.splitlines()) == 6 * 2 + 4 * 2 + 6 + 1  # padded and packed, cached in two ways, LoRA, worst


def test_weights_come_from_the_seed_alone():
    a, b, c = (DiT(CONFIG).init_weights(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert not torch.equal(a["blocks.0.attn.qkv.weight"], c["blocks.0.attn.qkv.weight"])
    with torch.device("meta"):
        late = DiT(CONFIG)
    late = late.to_empty(device="cpu").init_weights(3).state_dict()
    assert all(torch.equal(a[n], late[n]) for n in a)


def test_condition_tokens_see_no_noise_and_no_text(model):
    """Only what noisy frames give changes; a condition frame's output has no part in the loss, but its keys have."""
    x, t, text, mask = inputs()
    other = x.clone()
    other[:, :, 2:] += 1
    with torch.no_grad():
        out = model(x, t, text, mask, cond_frames=2)
        elsewhere = model(other, t + 50, text + 1, mask, cond_frames=2)
        cond_changed = model(x + (torch.arange(5) < 1).view(5, 1, 1), t, text, mask, cond_frames=2)
    torch.testing.assert_close(out[:, :, :2], elsewhere[:, :, :2], rtol=1e-5, atol=1e-5)
    assert (out - elsewhere)[:, :, 2:].abs().max() > 1e-2
    assert (out - cond_changed)[:, :, 2:].abs().max() > 1e-4


def test_a_timestep_a_frame_is_that_of_its_condition(model):
    x, t, text, mask = inputs()
    times = t[:, None].repeat(1, 5)
    times[:, :2] = 0
    with torch.no_grad():
        torch.testing.assert_close(
            model(x, t, text, mask, cond_frames=2), model(x, times, text, mask, cond_frames=2), rtol=0, atol=0
        )
        assert not torch.equal(model(x, t, text, mask), model(x, times, text, mask))


def test_padding_is_masked_out_or_zeroed_and_attended_to():
    x, t, text, mask = inputs(1)
    mask[0, 4:] = False
    garbage = torch.where(mask[..., None], text, 100.0)
    for zero_pad in (True, False):
        model = stirred(CONFIG.model_copy(update={"text_tokens_zero_pad": zero_pad}))
        with torch.no_grad():
            out, cut = model(x, t, text, mask), model(x, t, text[:, :4], mask[:, :4])
            torch.testing.assert_close(model(x, t, garbage, mask), out)
            torch.testing.assert_close(model(x, t, text, mask.long()), out)
        assert torch.allclose(out, cut, atol=1e-5) != zero_pad  # zeroed padding takes a share of the attention


def test_a_caption_of_padding_alone_is_finite():
    x, t, text, mask = inputs()
    mask[1] = False
    for zero_pad in (True, False):
        model = stirred(CONFIG.model_copy(update={"text_tokens_zero_pad": zero_pad}))
        out = model(x, t, text, mask)
        out.square().mean().backward()
        assert out.isfinite().all()
        assert all(p.grad.isfinite().all() for p in model.parameters())


def test_samples_of_a_batch_do_not_mix(model):
    x, t, text, mask = inputs()
    with torch.no_grad():
        alone = [model(x[i : i + 1], t[i : i + 1], text[i : i + 1], mask[i : i + 1]) for i in range(2)]
        torch.testing.assert_close(model(x, t, text, mask), torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_bf16_is_close_to_fp32(model):
    x, t, text, mask = inputs()
    with torch.no_grad():
        exact = model(x, t, text, mask, cond_frames=1)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(x, t, text, mask, cond_frames=1)
        half = stirred(CONFIG).bfloat16()(x.bfloat16(), t, text.bfloat16(), mask, cond_frames=1)
    for found in (mixed, half.float()):
        assert (found - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize("cond_frames", [0, 2])
def test_gradients_reach_every_parameter(cond_frames):
    x, t, text, mask = inputs()
    model = stirred(CONFIG)
    model(x, t, text, mask, cond_frames=cond_frames)[:, :, cond_frames:].square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_new_network_learns_from_its_first_step():
    """All is zero but the final layer's own gradient, and after one step the blocks' modulation has one."""
    x, t, text, mask = inputs()
    model = DiT(CONFIG).init_weights(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = (model(x, t, text, mask) - x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert model.blocks[0].adaLN_modulation[1].weight.grad.any()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": torch.zeros(2, 3, 5, 7, 10)}, r"latents of shape \(2, 3, 5, 7, 10\) do not fit"),
        ({"x": torch.zeros(2, 4, 5, 6, 10)}, r"\[B, 3, T, H, W\]"),
        ({"text": torch.zeros(2, 7, 9)}, r"text states of shape \(2, 7, 9\) do not fit: \[2, L, 8\]"),
        ({"text_mask": torch.ones(2, 6)}, r"a text mask of shape \(2, 6\)"),
        ({"t": torch.zeros(2, 4)}, r"timesteps of shape \(2, 4\) do not fit: \[2\] or \[2, 5\]"),
        ({"cond_frames": 5}, "5 condition frames of 5"),
        ({"cond_frames": -1}, "-1 condition frames"),
    ],
)
def test_shapes_that_do_not_fit_are_named(model, change, says):
    x, t, text, mask = inputs()
    with pytest.raises(ModelError, match=says):
        model(**{"x": x, "t": t, "text": text, "text_mask": mask, **change})


def test_a_part_of_a_weight_is_filled_as_the_whole_is():
    """Rows in the middle of what one generator makes; a second axis that is cut."""
    whole = torch.empty(200, 6)
    fill_uniform(whole, 0.5, "7/a")
    assert whole.abs().max() <= 0.5
    assert abs(float(whole.std()) - 0.5 / 3**0.5) < 0.02
    for first, rows in ((0, 200), (70, 10), (63, 66), (199, 1)):
        part = torch.empty(rows, 6)
        fill_rows(part, (first, 0), whole.shape, 0.5, "7/a")
        assert torch.equal(part, whole[first : first + rows])
    part = torch.empty(64, 2)
    fill_rows(part, (64, 3), whole.shape, 0.5, "7/a")
    assert torch.equal(part, whole[64:128, 3:5])
    assert len({float(row) for row in whole[:, 0]}) == 200  # no generator twice
