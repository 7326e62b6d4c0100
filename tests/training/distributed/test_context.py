"""Attention over strips on several ranks is attention over the whole."""

from dataclasses import replace

import pytest
import torch

from reelwright.kernels.blocks import BlockGrid
from reelwright.model.attention import Attend, Layout, dense_attention
from reelwright.model.rope import Span, rotation
from reelwright.training.batch import Strip, TokenStrip
from reelwright.training.budget.traced import made_up_ranks
from reelwright.training.distributed import partial_attention
from reelwright.training.distributed.context import (
    UlyssesAttention,
    attention_kernel,
    context_parallel,
    exchange_order,
    joined,
    share_again,
    share_by,
)
from reelwright.training.distributed.partial_attention import (
    backward_piece,
    backward_plain,
    forward_piece,
    forward_plain,
)
from reelwright.training.distributed.ring import RingAttention
from reelwright.training.distributed.strips import Strips, TokenStrips
from reelwright.training.distributed.world import World, start
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ParallelConfig, TrainRecipe
from tests.training.batches import make_batch
from tests.training.ranks import ranks
from tests.training.steps import CONFIG, PLAIN, tiny

COLUMNS, HEADS, DIM = 3, 6, 8
LAYOUTS = {
    "noisy alone": Layout(3, 5, COLUMNS),
    "two condition frames": Layout(3, 5, COLUMNS, cond_frames=2),
    "all condition": Layout(2, 5, COLUMNS, cond_frames=2),
    "one frame cached": Layout(3, 5, COLUMNS, cached_frames=1),
    "a row each": Layout(2, 3, COLUMNS, cond_frames=1),
}


def test_strips_see_the_whole() -> None:
    """Outputs and gradients of both forms, on 3 ranks, with rows that do not divide."""
    for found in ranks(3, _errors):
        assert len(found) == 2 * (len(LAYOUTS) + 1)
        for name, error in found.items():
            assert error < (0.03 if "bf16" in name else 1e-12), name


def _errors() -> dict[str, float]:
    parallel = ParallelConfig(context=3)
    world = start(parallel, device="cpu")
    assert world.context_group is not None
    place = world.context_group, world.context_rank, world.context_size
    tokens, rows = TokenStrips(*place), Strips(*place)
    errors = {}
    forms: list[tuple[Attend, Strips | TokenStrips]] = [(UlyssesAttention(tokens), tokens), (RingAttention(rows), rows)]
    for attend, strips in forms:
        form = type(attend).__name__
        for name, layout in LAYOUTS.items():
            errors[f"{form} {name}"] = _error(attend, strips, layout, torch.float64)
        errors[f"{form} bf16"] = _error(attend, strips, LAYOUTS["two condition frames"], torch.bfloat16)
    return errors


def _error(attend: Attend, strips: Strips | TokenStrips, layout: Layout, dtype: torch.dtype) -> float:
    """Largest error of this rank's outputs and gradients, over their largest value."""
    torch.manual_seed(0)
    frames = layout.frames - layout.cached_frames, layout.frames, layout.frames
    whole = [torch.randn(2, HEADS, f, layout.frame_tokens, DIM, dtype=torch.float64) for f in frames]
    weight = torch.randn_like(whole[0])
    mine = strips.divide(layout.rows, COLUMNS)
    at, here = place_of(mine, layout)
    part = [x[:, :, :, at].clone().to(dtype).requires_grad_() for x in whole]
    whole = [x.requires_grad_() for x in whole]

    expect = dense_attention(*(x.flatten(2, 3) for x in whole), layout)
    (expect * weight.flatten(2, 3)).sum().backward()
    out = attend(*(x.flatten(2, 3) for x in part), here)
    (out * weight[:, :, :, at].flatten(2, 3)).sum().backward()

    strip = expect.unflatten(2, weight.shape[2:4])[:, :, :, at].flatten(2, 3)
    pairs = [(out, strip)]
    for found, right in zip(part, whole, strict=True):
        assert found.grad is not None
        assert right.grad is not None
        pairs.append((found.grad, right.grad[:, :, :, at]))
    return max(float((found - right).abs().max() / right.abs().max()) for found, right in pairs)


def place_of(mine: Strip | TokenStrip, layout: Layout) -> tuple[slice, Layout]:
    """A part's tokens of each frame, and its own layout."""
    if isinstance(mine, TokenStrip):
        return slice(mine.first, mine.first + mine.tokens), replace(layout, rows=1, columns=mine.tokens)
    first = mine.first * layout.columns
    return slice(first, first + mine.rows * layout.columns), replace(layout, rows=mine.rows)


@pytest.mark.parametrize("keys", [1, 7])
def test_parts_of_keys_in_plain_operations_are_as_the_kernel_s(keys: int) -> None:
    """The path for machines without a fused kernel against the CPU's."""
    torch.manual_seed(0)
    q, k, v, grad = (torch.randn(2, 3, n, 8, dtype=torch.float64) for n in (1030, keys, keys, 1030))
    out, lse = forward_piece(q, k, v)
    plain = forward_plain(q, k, v)
    torch.testing.assert_close(plain, (out, lse))
    torch.testing.assert_close(plain[1], torch.logsumexp(q @ k.mT / 8**0.5, -1))
    torch.testing.assert_close(backward_plain(grad, q, k, v, out, lse), backward_piece(grad, q, k, v, out, lse))


def test_a_kernel_that_is_wrong_or_does_not_run_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert partial_attention.piece_backend(cpu, torch.bfloat16, 64) == "cpu"
    assert partial_attention._is_right("cpu", cpu, torch.bfloat16, 16)
    with pytest.warns(UserWarning, match="attention by cudnn does not run here"):
        assert not partial_attention._is_right("cudnn", cpu, torch.bfloat16, 16)
    monkeypatch.setattr(partial_attention, "PROBE_ERROR", 1e-9)
    assert not partial_attention._is_right("cpu", cpu, torch.bfloat16, 16)


@pytest.mark.parametrize(
    ("capability", "dtype", "dim", "wrong", "expect"),
    [
        ((9, 0), torch.bfloat16, 128, "", "cudnn"), ((10, 0), torch.float16, 64, "", "cudnn"),
        ((9, 0), torch.bfloat16, 136, "", "flash"), ((8, 9), torch.bfloat16, 128, "", "flash"),
        ((9, 0), torch.bfloat16, 256, "", "flash"), ((9, 0), torch.bfloat16, 264, "", "plain"),
        ((9, 0), torch.float32, 64, "", "plain"), ((9, 0), torch.bfloat16, 60, "", "plain"),
        ((9, 0), torch.bfloat16, 128, "cudnn", "flash"), ((9, 0), torch.bfloat16, 128, "cudnn flash", "plain"),
    ],
)  # fmt: skip
def test_the_fastest_kernel_that_a_gpu_has_and_that_is_right_is_taken(
    capability: tuple[int, int], dtype: torch.dtype, dim: int, wrong: str, expect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is asked."""
    choose, cuda = partial_attention.piece_backend.__wrapped__, torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(partial_attention, "_is_right", lambda name, *_: name not in wrong.split())
    assert choose(cuda, dtype, dim) == expect
    monkeypatch.setattr(torch.version, "cuda", None)  # of AMD, whose versions count otherwise
    assert choose(cuda, dtype, dim) != "cudnn"


@pytest.mark.parametrize(("off", "right"), [(1.03, True), (1.07, False)])
def test_a_kernel_may_be_off_by_five_percent(off: float, right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In either pass; bf16's own error is below two."""
    for name in ("forward_piece", "backward_piece"):
        with monkeypatch.context() as patched:
            real = getattr(partial_attention, name)
            patched.setattr(partial_attention, name, lambda *a, _real=real: tuple(off * x for x in _real(*a)))
            assert partial_attention._is_right("cpu", torch.device("cpu"), torch.float32, 16) == right


def test_what_ranks_send_is_put_into_the_order_that_is_wanted() -> None:
    """Each rank sends its part of every frame; numbers are those of tokens in (t, h, w) order."""
    frames, rows, columns = 3, 2, 5
    tokens = torch.arange(frames * rows * columns)
    parts = tokens.view(frames, -1).split([4, 3, 3], dim=1)
    sent = torch.cat([part.flatten() for part in parts])
    grid = BlockGrid((frames, rows, columns), (2, 2, 2))
    for blocks, expect in ((None, tokens), ((grid.grid, grid.block, grid.split, grid.other), grid.order())):
        order, back = exchange_order(frames, (4, 3, 3), blocks, "cpu")
        assert torch.equal(sent[order], expect)
        assert torch.equal(expect[back], sent)


def test_strips_of_whole_blocks_hold_every_row_once() -> None:
    """17 rows in blocks of 4: two blocks each for the first ranks, and the last has what is left."""
    found = [Strips(None, rank, 3, multiple=4).divide(17) for rank in range(3)]  # type: ignore[arg-type]
    assert [(strip.first, strip.rows) for strip in found] == [(0, 8), (8, 8), (16, 1)]


@pytest.mark.parametrize(("rows", "expect"), [(5, (2, 2, 1)), (3, (1, 1, 1)), (30, (10, 10, 10))])
def test_rows_are_shared_out(rows: int, expect: tuple[int, ...]) -> None:
    found = [Strips(None, rank, 3) for rank in range(3)]  # type: ignore[arg-type]
    cut = [strips.divide(rows) for strips in found]
    assert found[0].rows == expect
    assert [c.rows for c in cut] == list(expect)
    assert [c.first for c in cut] == [sum(expect[:rank]) for rank in range(3)]


@pytest.mark.parametrize(("rows", "columns"), [(45, 80), (80, 45), (49, 74), (30, 52)])
@pytest.mark.parametrize("size", [2, 4, 8])
def test_ulysses_shares_differ_by_a_token_per_frame(rows: int, columns: int, size: int) -> None:
    """720p (16:9, 9:16, about 2:3) and 480p: no rank has over 1.05 times its share."""
    found = [TokenStrips(None, rank, size) for rank in range(size)]  # type: ignore[arg-type]
    cut = [strips.divide(rows, columns) for strips in found]
    assert found[0].tokens == tuple(c.tokens for c in cut)
    assert sum(found[0].tokens) == rows * columns
    assert [c.first for c in cut] == [sum(found[0].tokens[:rank]) for rank in range(size)]
    assert max(found[0].tokens) * size / (rows * columns) <= 1.05


def test_a_part_of_each_frame_is_its_patches_in_order_at_their_places() -> None:
    """A latent whose numbers are those of its tokens; RoPE of the part is the whole's."""
    rows, columns = 3, 5
    tokens = torch.arange(rows * columns).view(rows, columns)
    latent = tokens.repeat_interleave(2, 0).repeat_interleave(2, 1).expand(1, 4, 2, -1, -1)
    whole = rotation(24, (2, rows, columns)).view(2, rows * columns, 12, 2)
    for first, count in ((0, 4), (4, 2), (4, 3), (7, 8)):  # the second ends with a row's first
        part = TokenStrip(first, count, columns)
        expect = torch.arange(first, first + count).repeat_interleave(2).expand(1, 4, 2, 2, -1)
        assert torch.equal(part.cut(latent, (1, 2, 2)), expect)
        assert part.origin == Span(first, columns)
        found = rotation(24, (2, 1, count), part.origin).view(2, count, 12, 2)
        assert torch.equal(found, whole[:, first : first + count])


def test_a_strip_of_rows_is_its_patches_at_their_places() -> None:
    rows, columns = 3, 5
    latent = torch.arange(rows * columns).view(rows, columns).repeat_interleave(2, 0).repeat_interleave(3, 1)
    whole = rotation(24, (2, rows, columns)).view(2, rows, columns, 12, 2)
    for first, count in ((0, 1), (1, 2), (2, 1)):
        strip = Strip(first, count)
        assert torch.equal(strip.cut(latent, (1, 2, 3)), latent[2 * first : 2 * (first + count)])
        found = rotation(24, (2, count, columns), strip.origin).view(2, count, columns, 12, 2)
        assert torch.equal(found, whole[:, first : first + count])


@pytest.mark.parametrize("form", [Strips, TokenStrips])
def test_parts_of_all_ranks_are_the_whole_at_their_places(form: type[Strips] | type[TokenStrips]) -> None:
    """The sum over ranks, which is made here, of what each puts into an empty whole."""
    whole, parallel = torch.randn(2, 4, 3, 10, 18), ParallelConfig(context=3)
    with made_up_ranks(parallel, 3) as world:
        group = world.context_group
        assert group is not None
        strips = [form(group, rank, 3).divide(5, 6) for rank in range(3)]
        parts = [joined(s.cut(whole, (1, 2, 3)), s, (10, 18), (1, 2, 3), group) for s in strips]
    assert torch.equal(sum(parts), whole)


def test_attention_has_the_strips_of_the_batch_that_was_shared_last_or_again() -> None:
    model, patch = torch.nn.Module(), (1, 2, 2)
    strips = TokenStrips(None, 1, 2)  # type: ignore[arg-type]
    small, large = (make_batch(side=side) for side in (4, 8))
    assert share_by(model, small, patch) is small  # which no rank shares
    model.context_strips = strips
    small, shares = share_by(model, small, patch), {}
    shares["small"] = strips.tokens
    large = share_by(model, large, patch)
    shares["large"] = strips.tokens
    assert shares == {"small": (2, 2), "large": (8, 8)}
    share_again(model, replace(small, strip=None), patch)
    assert strips.tokens == shares["large"]
    share_again(model, small, patch)
    assert strips.tokens == shares["small"]
    share_again(torch.nn.Module(), large, patch)
    assert strips.tokens == shares["small"]


def test_too_few_tokens_are_a_sentence() -> None:
    with pytest.raises(TrainError, match="only 2 tokens to share"):
        TokenStrips(None, 0, 3).divide(1, 2)  # type: ignore[arg-type]


def test_too_few_rows_are_a_sentence() -> None:
    with pytest.raises(TrainError, match="only 2 rows of tokens to share"):
        Strips(None, 0, 3).divide(2)  # type: ignore[arg-type]


def test_heads_that_do_not_divide_are_a_sentence() -> None:
    assert all("does not divide the model's 4 heads" in said for said in ranks(3, _heads))


def _heads() -> str:
    parallel = ParallelConfig(context=3)
    try:
        context_parallel(tiny(), parallel, start(parallel, device="cpu"))
    except TrainError as error:
        return str(error)
    return ""


def test_the_kernel_that_the_log_names_is_the_one_that_runs() -> None:
    recipe = TrainRecipe(model=CONFIG, compute=PLAIN)
    ring = recipe.model_copy(update={"parallel": ParallelConfig(context=2, context_form="ring")})
    assert attention_kernel(recipe, World.alone("cpu")) == "flash"
    assert attention_kernel(ring, World.alone("cpu")) == "cpu, in a ring"
    q, k, v = torch.randn(3, 1, CONFIG.num_heads, 16, CONFIG.head_dim)
    with torch.profiler.profile() as seen:
        dense_attention(q, k, v, Layout(1, 4, 4))
    assert any("_scaled_dot_product_flash_attention_for_cpu" in event.key for event in seen.key_averages())


def test_alone_nothing_is_split() -> None:
    model = tiny()
    assert context_parallel(model, ParallelConfig(), World.alone("cpu")) is None
    assert model.blocks[0].attn.attend is dense_attention
