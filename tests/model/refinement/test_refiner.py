"""Coarse to fine with a tiny random network, and with one that knows the truth."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.dct_codec import moving
from reelwright.model import dit
from reelwright.model.attention import SelfAttention
from reelwright.model.cache import to_host
from reelwright.model.config import AttentionConfig
from reelwright.model.errors import ModelError
from reelwright.model.refinement.plan import Refinement
from reelwright.model.refinement.refiner import FirstStage, Refiner, windows
from reelwright.model.sampling.generator import Generator
from reelwright.model.sparse import attending_by
from tests.model.live import LiveElements
from tests.model.sampling.test_generator import PROMPTS, SEEDS, close, generator

__all__ = ["generator"]  # a fixture

HOW = Refinement(to="128x64")


@pytest.fixture(scope="module")
def coarse() -> torch.Tensor:
    """[2, 3, 21, 32, 64]: two films of the first stage."""
    from skimage import data

    parts = [torch.cat([moving(p, (32, 64), s) for s in (1.0, 2.0, 3.0)], 1) for p in (data.astronaut(), data.coffee())]
    return torch.stack(parts)[:, :, :21]


def first(video: torch.Tensor, given: int = 0, condition: torch.Tensor | None = None) -> FirstStage:
    return FirstStage(lambda start, stop: video[:, :, start:stop], video.shape[2], given, condition)


def refined(generator: Generator, stage: FirstStage, how: Refinement = HOW, **asked) -> torch.Tensor:
    return torch.cat(list(Refiner(generator, how).stream(stage, PROMPTS, SEEDS, **asked)), 2)


# --- windows ---------------------------------------------------------------------------------------------------------


def test_the_published_windows() -> None:
    assert windows(93) == [(0, 93)]
    assert windows(93 + 80 * 2) == [(0, 93), (80, 173), (160, 253)]
    assert windows(100) == [(0, 93), (80, 100)]


@given(frames=st.integers(1, 900), window=st.integers(6, 120), overlap=st.integers(5, 119))
def test_windows_cover_a_video_once(frames: int, window: int, overlap: int) -> None:
    if overlap >= window and frames > window:
        with pytest.raises(ModelError, match="must share 5 to"):
            windows(frames, window, overlap)
        return
    parts = windows(frames, window, overlap)
    assert parts[0][0] == 0
    assert parts[-1][1] == frames
    for (start, stop), (following, end) in zip(parts, parts[1:], strict=False):
        assert stop - start == window
        assert stop - following == overlap
        assert end > stop, "a window without a new frame"


# --- frames, rates, sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spatial_only", "times"), [(False, 2), (True, 1)])
@pytest.mark.parametrize("task", ["text", "image", "continuation"])
def test_every_task_has_its_frames(
    generator: Generator, coarse: torch.Tensor, task: str, spatial_only: bool, times: int
) -> None:
    how = Refinement(to="128x64", spatial_only=spatial_only)
    given = {"text": 0, "image": 1, "continuation": 5}[task]
    count = given if given < 2 else given * times
    condition = torch.rand(2, 3, count, 64, 128) * 2 - 1 if given else None
    ticks: list[tuple[int, int]] = []
    stage = first(coarse[:, :, :9], given, condition)
    video = refined(generator, stage, how, on_step=lambda done, total: ticks.append((done, total)))
    assert video.shape == (2, 3, 9 * times, 64, 128)
    assert video.abs().max() <= 1
    assert ticks == [(i + 1, 5) for i in range(5)]
    if condition is not None:
        close(video[:, :, :count], condition, 0)


def test_a_condition_of_another_size_is_refused(generator: Generator, coarse: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"\[2, 3, 5, 64, 128\]; expected \[2, 3, 10, 64, 128\]"):
        refined(generator, first(coarse[:, :, :9], 5, torch.zeros(2, 3, 5, 64, 128)))
    with pytest.raises(ModelError, match="none; expected"):
        refined(generator, first(coarse[:, :, :9], 5))


# --- an oracle -------------------------------------------------------------------------------------------------------


class Oracle(Generator):
    """Its prediction leads straight to the latents `truth` gives: x + t' v = x0."""

    def __init__(self, generator: Generator, truth: Callable[[], torch.Tensor]) -> None:
        super().__init__(generator.model, generator.codec, generator.text_encoder)
        self.truth, self.asked = truth, []

    def predictor(self, condition, settings):
        x0 = self.truth()

        def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            self.asked.append(float(t[0]))
            return (x0 - x) / (t / 1000).view(-1, 1, 1, 1, 1)

        return predict


@pytest.mark.parametrize("given", [0, 1, 5])
def test_an_oracle_refines_to_the_truth(generator: Generator, coarse: torch.Tensor, given: int) -> None:
    from skimage import data

    codec = generator.codec
    parts = [torch.cat([moving(data.chelsea(), (64, 128), s) for s in (1.0, 2.0)], 1)[:, :18]] * 2
    fine = torch.stack(parts)
    plan = HOW.plan(9, 32, 64, condition=given)
    clean = plan.padding.condition
    whole = codec.encode(plan.padding.pad(fine))
    oracle = Oracle(generator, lambda: whole[:, :, plan.padding.cond_latents :])
    stage = first(coarse[:, :, :9], given, fine[:, :, :clean] if given else None)
    video = refined(oracle, stage)
    expected = plan.padding.cut(codec.decode(whole))
    close(video[:, :, clean:], expected[:, :, clean:], 1e-4)
    close(video[:, :, :clean], fine[:, :, :clean], 0)
    torch.testing.assert_close(
        torch.tensor(oracle.asked), torch.tensor([500.0, 443.02, 343.47, 207.77, 11.87]), atol=0.005, rtol=0
    )


# --- long videos -----------------------------------------------------------------------------------------------------


def test_windows_join_without_a_seam(generator: Generator, coarse: torch.Tensor) -> None:
    """Each window begins with the last refined frames before it, and those are out already, unchanged."""
    seen: list[torch.Tensor | None] = []

    class Spy(Refiner):
        def refine(self, coarse, prompts, plan, generators, condition=None, on_step=None):
            video = super().refine(coarse, prompts, plan, generators, condition, on_step)
            seen.append(condition)
            if condition is not None:
                close(video[:, :, : condition.shape[2]], condition, 0)
            return video

    parts = list(Spy(generator, HOW).stream(first(coarse), PROMPTS, SEEDS, window=9, overlap=5))
    assert [p.shape[2] for p in parts] == [18, 8, 8, 8]
    whole = torch.cat(parts, 2)
    assert whole.shape[2] == 2 * coarse.shape[2]
    assert seen[0] is None
    for i, condition in enumerate(seen[1:], 1):
        end = 18 + 8 * (i - 1)
        close(condition, whole[:, :, end - 10 : end], 0)
    one = refined(generator, first(coarse[:, :, :9]))
    close(whole[:, :, :18], one, 0)


def test_windows_with_exact_times_show_each_frame_at_its_own(generator: Generator, coarse: torch.Tensor) -> None:
    """A window's last frame repeats the one before, since no frame follows there; the next window makes it anew."""
    seen: list[torch.Tensor] = []

    class Spy(Refiner):
        def refine(self, coarse, prompts, plan, generators, condition=None, on_step=None):
            seen.append(plan.enlarge(coarse)[:, :, plan.padding.condition :])
            if condition is not None:
                close(condition, torch.cat(parts, 2)[:, :, -9:], 0)
            return super().refine(coarse, prompts, plan, generators, condition, on_step)

    parts: list[torch.Tensor] = []
    how = Refinement(to="128x64", timing="exact")
    for part in Spy(generator, how).stream(first(coarse), PROMPTS, SEEDS, window=9, overlap=5):
        parts.append(part)
    assert [p.shape[2] for p in parts] == [17, 8, 8, 9]
    shown = torch.cat([s[:, :, : p.shape[2]] for s, p in zip(seen, parts, strict=True)], 2)
    close(shown, how.plan(21, 32, 64).enlarge(coarse), 1e-5)


def test_a_sample_does_not_hang_on_its_batch_and_comes_again(generator: Generator, coarse: torch.Tensor) -> None:
    both = refined(generator, first(coarse[:, :, :13]), window=9, overlap=5)
    alone = Refiner(generator, HOW).stream(first(coarse[1:, :, :13]), PROMPTS[1:], SEEDS[1:], window=9, overlap=5)
    close(torch.cat(list(alone), 2)[0], both[1])
    close(refined(generator, first(coarse[:, :, :13]), window=9, overlap=5), both, 0)
    other = Refiner(generator, HOW).stream(first(coarse[:, :, :13]), PROMPTS, [7, 8], window=9, overlap=5)
    assert (torch.cat(list(other), 2) - both).abs().max() > 1e-3


def test_memory_does_not_grow_with_the_length(generator: Generator, coarse: torch.Tensor) -> None:
    peaks = []
    for frames in (13, 21):
        stage = first(coarse[:1, :, :frames])
        parts = Refiner(generator, HOW).stream(stage, PROMPTS[:1], SEEDS[:1], window=9, overlap=5)
        with LiveElements() as live:
            for _part in parts:
                pass
        peaks.append(live.peak)
    assert peaks[1] <= 1.02 * peaks[0]


# --- attention -------------------------------------------------------------------------------------------------------


def test_given_frames_may_lie_in_the_host_s_memory(
    generator: Generator, coarse: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the second window of two; on a CPU all memory is the host's, so what goes is counted."""
    moved: list[int] = []
    monkeypatch.setattr(dit, "to_host", lambda pair: (moved.append(len(pair)), to_host(pair))[1])
    films = []
    for offload in (False, True):
        assert not moved
        parts = Refiner(generator, HOW, offload=offload).stream(
            first(coarse[:, :, :13]), PROMPTS, SEEDS, window=9, overlap=5
        )
        films.append(torch.cat(list(parts), 2))
    close(films[1], films[0], 0)
    assert moved == [2] * len(generator.model.blocks)


def test_attention_is_sparse_within_alone(generator: Generator, coarse: torch.Tensor) -> None:
    def forms() -> list[object]:
        return [m.attend for m in generator.model.modules() if isinstance(m, SelfAttention)]

    before, dense = forms(), refined(generator, first(coarse[:, :, :9]))
    with attending_by(generator.model, AttentionConfig(form="sparse", block=(2, 2, 2), keep=0.2)):
        sparse = refined(generator, first(coarse[:, :, :9]))
        assert forms() != before
    assert forms() == before
    assert (sparse - dense).abs().max() > 1e-4
    with attending_by(generator.model, AttentionConfig(form="sparse", block=(2, 2, 2), keep=1.0)):
        close(refined(generator, first(coarse[:, :, :9])), dense, 1e-3)
    with pytest.raises(RuntimeError), attending_by(generator.model, AttentionConfig(form="sparse")):
        raise RuntimeError
    assert forms() == before
