"""`reel generate --refine` and `reel refine`: frames, rates and sizes of every task, and what the files say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reelwright.curation.media.frames import Frames, read
from reelwright.errors import UserError
from reelwright.model.checkpoint import save_model, weights_hash
from reelwright.model.config import LoRAConfig
from reelwright.model.lora.adapters import add_lora, save_lora
from reelwright.model.sampling.guidance import NEGATIVE
from reelwright.model.sampling.video_file import read_about
from reelwright.model.weights.weight_files import open_weights
from reelwright.pipelines.generate.conditions import read_shown, read_span
from reelwright.pipelines.generate.loras import LoRA, check_stack, find_lora
from reelwright.pipelines.generate.run import memory_may_end
from reelwright.pipelines.generate.spool import Spool
from tests.footage import frames, number_of, write
from tests.pipelines.generate.test_generate import MODEL, film, here, network, run

__all__ = ["film", "here", "run"]  # fixtures

Invoke = Callable[..., Any]
TARGETS = ("*.qkv", "*.ffn.w?", "*adaLN_modulation.1", "final_layer.linear")


def save_adapter(path: Path, seed: int, note: dict[str, Any] | None = None) -> Path:
    """A LoRA file that does something; beside it, what `reel checkpoint export` would say of it."""
    model = network(1)
    add_lora(model, LoRAConfig(rank=2, alpha=1, targets=TARGETS), name="a", seed=seed)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".up." in name:
                weight.copy_(torch.randn(weight.shape, generator=noise))
    save_lora(model, path, name="a")
    if note is not None:
        digest = weights_hash(open_weights(path))
        (path.parent / "about.json").write_text(json.dumps({"kind": "lora", "sha256": digest, **note}))
    return path


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `fine` (of refinement) and `quick` (16 steps), as exports leave them."""
    folder = tmp_path_factory.mktemp("loras")
    snapshot = {"name": "beach", "content_hash": "c0ffee", "num_clips": 3, "store": "STORE"}
    for i, (name, objective) in enumerate(
        {"fine": {"kind": "refinement"}, "quick": {"kind": "consistency", "phases": 4}}.items()
    ):
        (folder / name).mkdir()
        note = {"objective": objective, "snapshot": snapshot, "step": 7, "source": f"runs/{name}"}
        save_adapter(folder / name / "lora.safetensors", i, note)
    return folder


def shown(path: Path, count: int) -> tuple[Any, np.ndarray]:
    facts, (pictures,) = read(path.read_bytes(), [Frames(count=count, color="rgb")])
    return facts, pictures


COMMON = ("-p", "a dog", "--to", "128x64", "-q")


@pytest.mark.parametrize(
    ("task", "count"),
    {"text": 18, "image": 18, "video": 18, "long": 26, "spatial": 9}.items(),
)
def test_every_task_is_refined(
    run: Path, loras: Path, film: Path, here: Invoke, tmp_path: Path, task: str, count: int
) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64, 3), 90, np.uint8))
    more = {
        "text": (),
        "image": ("--image", "a.png"),
        "video": ("--video", film, "--overlap", "5"),
        "long": ("--segments", "2", "--overlap", "5"),
        "spatial": ("--spatial-only", "--timing", "exact", "--refine-attention", "dense"),
    }[task]
    made = here("generate", run, *COMMON, "--refine", loras / "fine", *more, "--out", "x.mp4")
    assert made.exit_code == 0, made.output
    facts, pictures = shown(tmp_path / "x.mp4", count)
    fps = 12 if task == "spatial" else 24
    assert (facts.width, facts.height, facts.num_frames, facts.fps) == (128, 64, count, fps)
    about = read_about(tmp_path / "x.mp4")
    assert about["fps"] == fps
    assert about["refined"]["prompt"] == ("" if task == "long" else "a dog")
    assert about["refined"]["spatial_only"] is (task == "spatial")
    assert about["refined"]["timing"] == ("exact" if task == "spatial" else "published")
    assert about["refined"]["attention"] == "dense" or about["refined"]["attention"]["keep"] == 1 / 16
    assert [(one["stage"], one["objective"]) for one in about["loras"]] == [("refinement", "refinement")]
    if task == "image":
        assert np.abs(pictures[0].astype(int) - 90).mean() < 3, "it begins with the picture itself, enlarged"


def test_the_first_stage_is_the_same_with_and_without_refinement(
    run: Path, loras: Path, here: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its LoRA is merged for it and comes off for the second stage."""
    kept: list[torch.Tensor] = []
    write_parts = Spool.write
    monkeypatch.setattr(Spool, "write", lambda self, part: (kept.append(part), write_parts(self, part))[1])
    quick = ("--lora", loras / "quick")
    assert here("generate", run, *COMMON, "--refine", loras / "fine", *quick, "--out", "x.mp4").exit_code == 0
    assert here("generate", run, "-p", "a dog", "-q", *quick, "--out", "plain.mp4").exit_code == 0
    about = read_about(tmp_path / "plain.mp4")
    assert {k: about["settings"][k] for k in ("distilled", "steps", "guidance")} == {
        "distilled": True, "steps": 4, "guidance": 1.0
    }  # fmt: skip
    assert about["settings"] == read_about(tmp_path / "x.mp4")["settings"]
    from reelwright.model.sampling.video_file import write_video

    again = write_video(tmp_path / "again.mp4", torch.cat(kept, 2)[0], 12)
    np.testing.assert_array_equal(shown(again, 9)[1], shown(tmp_path / "plain.mp4", 9)[1])
    objectives = [one["objective"] for one in read_about(tmp_path / "x.mp4")["loras"]]
    assert objectives == ["consistency", "refinement"]


def test_a_video_that_exists_is_refined(run: Path, loras: Path, film: Path, here: Invoke, tmp_path: Path) -> None:
    """As right after generating it, apart from what an mp4 loses; footage too, in windows, at its own rate."""
    assert here("generate", run, "-p", "a dog", "-q", "--out", "first.mp4").exit_code == 0
    lora = ("--lora", loras / "fine", "--to", "128x64", "-q")
    made = here("refine", "first.mp4", run, *lora, "--out", "later.mp4")
    assert made.exit_code == 0, made.output
    assert here("generate", run, *COMMON, "--refine", loras / "fine", "--out", "at-once.mp4").exit_code == 0
    (facts, later), (_, at_once) = (shown(tmp_path / n, 18) for n in ("later.mp4", "at-once.mp4"))
    assert (facts.width, facts.height, facts.num_frames, facts.fps) == (128, 64, 18, 24)
    both = np.corrcoef(later.ravel().astype(float), at_once.ravel().astype(float))[0, 1]
    assert both > 0.8
    about = read_about(tmp_path / "later.mp4")
    assert about["prompts"] == ["a dog"]
    assert about["refined_from"]["about"]["seed"] == 0

    made = here("refine", film, run, *lora, "--window", "17", "--overlap", "5", "--out", "film.mp4", "-p", "a number")
    assert made.exit_code == 0, made.output
    read_at_12 = int(read_shown(film).duration_s * 12 + 0.01)  # 40 frames at 25 per second, in windows of 17
    facts, _ = shown(tmp_path / "film.mp4", 4)
    assert (facts.num_frames, facts.fps) == (2 * read_at_12, 24)
    assert read_about(tmp_path / "film.mp4")["refined_from"]["about"] is None


def test_lineage_leads_through_every_adapter(run: Path, loras: Path, here: Invoke, tmp_path: Path) -> None:
    """From a refined video to its first stage, the run, and the records of both LoRAs with their snapshots."""
    assert here("generate", run, "-p", "a dog", "-q", "--lora", loras / "quick", "--out", "first.mp4").exit_code == 0
    lora = ("--lora", loras / "fine", "--to", "128x64", "-q")
    assert here("refine", "first.mp4", run, *lora, "--out", "x.mp4").exit_code == 0
    (tmp_path / "first.mp4").unlink()  # the refined file carries its record
    found = json.loads(here("lineage", "x.mp4", "--json").output)
    assert found["facts"]["refined_from"].endswith("first.mp4")
    fine, first = found["made_of"]
    assert (fine["kind"], first["kind"]) == ("lora", "generated")
    assert "beach, c0ffee" in fine["facts"]["snapshot"]
    (quick,) = first["made_of"]
    assert quick["facts"]["source"] == "runs/quick"
    assert "beach, c0ffee" in first["facts"]["snapshot"]
    said = here("lineage", "x.mp4").output
    assert "runs/fine" in said
    assert "runs/quick" in said


# --- LoRA files by name ----------------------------------------------------------------------------------------------


def test_published_loras_are_found_by_name(loras: Path, tmp_path: Path) -> None:
    for name in ("cfg_step_lora", "refinement_lora"):
        (tmp_path / "weights" / "lora").mkdir(parents=True, exist_ok=True)
        save_adapter(tmp_path / "weights" / "lora" / f"{name}.safetensors", 0)
    (tmp_path / "weights" / "dit").mkdir()
    for beside in (tmp_path / "weights", tmp_path / "weights" / "dit"):
        step = find_lora(Path("cfg_step_lora"), 0.9, beside)
        assert (step.objective, step.weight) == ("consistency", 0.9)
        assert step.sampling == {"distilled": True, "steps": 16, "guidance": 1.0}
        assert find_lora(Path("refinement_lora"), 1, beside).objective == "refinement"
    assert find_lora(loras / "fine", 1, tmp_path).objective == "refinement"
    copy = tmp_path / "copy"  # `reel checkpoint import weights/dit copy`
    copy.mkdir()
    (copy / "about.json").write_text(json.dumps({"kind": "weights", "source": str(tmp_path / "weights" / "dit")}))
    assert find_lora(Path("cfg_step_lora"), 1, copy).objective == "consistency"


def test_an_exported_lora_and_its_copies_say_what_they_are_for(here: Invoke, tmp_path: Path) -> None:
    from reelwright.training.checkpoints import Checkpoints
    from reelwright.training.recipe import TrainRecipe

    lora = LoRAConfig(rank=2, alpha=1, targets=("*.qkv",))
    model = network(1)
    add_lora(model, lora)
    recipe = TrainRecipe(model=MODEL, init="base", lora=lora, objective={"kind": "consistency", "phases": 8})
    kept = Checkpoints(tmp_path / "quick" / "checkpoints", 1)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items() if ".lora." in name}
    kept.save(5, state, {"recipe": recipe.model_dump(mode="json"), "recipe_fingerprint": recipe.fingerprint})
    kept.wait()
    save_model(network(1), MODEL, tmp_path / "base")
    assert here("checkpoint", "export", "quick", "exported", "--lora").exit_code == 0
    copied = here("checkpoint", "import", "exported/lora.safetensors", "copied", "--base", "base")
    assert copied.exit_code == 0, copied.output
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "short.safetensors").symlink_to(tmp_path / "copied" / "lora.safetensors")
    for place in ("exported", "copied", "links/short.safetensors"):
        found = find_lora(Path(place), 1, tmp_path)
        assert (found.objective, found.steps) == ("consistency", 8)


def test_loras_of_one_purpose_go_with_any_style(tmp_path: Path) -> None:
    style, quick = LoRA(tmp_path / "style.safetensors"), LoRA(tmp_path / "q.safetensors", 1, "dmd", 4)
    check_stack([style, quick, style])
    assert quick.sampling["steps"] == 4


REFUSED = {
    "two distilled": (("--lora", "L/quick", "--lora", "L/quick"), "exclude one another"),
    "refinement samples": (("--lora", "L/fine"), "give it with --refine"),
    "distilled refines": (("--refine", "L/quick"), "is for sampling in few steps, not for refinement"),
    "no lora": (("--refine", "nowhere"), "there is no LoRA file nowhere"),
    "a run": (("--refine", "RUN"), "is a run; write its LoRA first: reel checkpoint export"),
    "picture": (("--refine", "L/fine", "--frames", "1", "--out", "x.png"), "--refine is for videos"),
    "to without": (("--to", "480p"), "--to is of refinement; add --refine LORA"),
    "no size": (("--refine", "L/fine", "--to", "huge"), "'huge' is no size to refine to"),
    "no multiple": (("--refine", "L/fine", "--to", "100x64"), "multiples of 64"),
    "keep of dense": (
        ("--refine", "L/fine", "--refine-attention", "dense", "--refine-keep", "0.5"), "--refine-keep 0.5",
    ),
    "no utf-8": (("-p", "a dog \udcff"), "is not UTF-8 at character 6"),
    "no class": (("--size", "600p"), "or 480p or 720p"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_sentence(case: str, run: Path, loras: Path, here: Invoke) -> None:
    from reelwright.errors import ReelError

    arguments, says = REFUSED[case]
    given = [a.replace("L/", f"{loras}/").replace("RUN", str(run)) for a in arguments]
    result = here("generate", run, "-p", "x", "--out", "x.mp4", *given)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, ReelError), result.exception
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.mp4",), "no file none.mp4"),
        (("F",), "was not trained for refinement; add --lora"),
        (("F", "--lora", "L/quick"), "not for refinement"),
        (("F", "--lora", "L/fine", "--video", "F", "--given", "40"), "40 of them are said to be given"),
        (("F", "--lora", "L/fine", "--out", "F"), "name another --out"),
        (("story.txt", "--lora", "L/fine"), "cannot be used"),
    ],
)
def test_what_refine_refuses_is_one_sentence(
    arguments: tuple[str, ...], says: str, run: Path, loras: Path, film: Path, here: Invoke, tmp_path: Path
) -> None:
    from reelwright.errors import ReelError

    (tmp_path / "story.txt").write_text("a dog")
    video, *given = (str(film) if a == "F" else a.replace("L/", f"{loras}/") for a in arguments)
    result = here("refine", video, run, "--out", "x.mp4", *given)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, ReelError), result.exception
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)


def test_frames_that_are_no_numbers_are_not_written(run: Path, film: Path, here: Invoke, tmp_path: Path) -> None:
    """A LoRA of NaN, in either stage, of a video and of a picture: nothing is left."""
    from reelwright.errors import ReelError

    lora = save_adapter(tmp_path / "broken.safetensors", 0)
    tensors = load_file(lora)
    save_file({k: v * float("nan") if "lora_up" in k else v for k, v in tensors.items()}, lora)
    before = sorted(tmp_path.iterdir())
    for given in (
        ("generate", run, "-p", "x", "--lora", lora, "--out", "x.mp4"),
        ("generate", run, "-p", "x", "--lora", lora, "--out", "x.png", "--frames", "1"),
        ("generate", run, *COMMON, "--refine", lora, "--out", "x.mp4"),
        ("refine", film, run, "--lora", lora, "--to", "128x64", "--out", "x.mp4"),
    ):
        result = here(*given)
        assert isinstance(result.exception, ReelError), result.output
        assert "not finite" in str(result.exception)
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("elements", [1 << 55, 1 << 62])
def test_a_size_that_no_memory_holds_is_one_sentence(elements: int) -> None:
    with pytest.raises(UserError, match="memory is not enough; try a smaller --to"), memory_may_end("a smaller --to"):
        torch.empty(elements, dtype=torch.float32)
    with pytest.raises(RuntimeError, match="size"), memory_may_end("a smaller --to"):
        torch.zeros(2) + torch.zeros(3)


# --- parity and sizes ------------------------------------------------------------------------------------------------


def test_published_is_a_list_of_settings(run: Path, film: Path, here: Invoke, tmp_path: Path) -> None:
    """All that docs/training.md names as different by default is as published then."""
    asked = ("generate", run, "-p", "x", "--video", film, "--size", "64x48", "--frames", "17", "--steps", "2")
    made = here(*asked, "--published", "--out", "x.mp4")
    assert made.exit_code == 0, made.output
    assert "give it with --negative" in made.output
    about = read_about(tmp_path / "x.mp4")
    said = about["settings"]
    assert (said["shift"], said["later_shift"], said["guidance"], said["enhance_hf"]) == (12.0, None, 4.0, True)
    assert all(said[name] for name in ("posterior", "cut_levels", "fit_condition", "bf16_noise"))
    assert about["fps"] == 15
    assert here(*asked, "--out", "ours.mp4", "-q").exit_code == 0
    ours = read_about(tmp_path / "ours.mp4")["settings"]
    assert not any(ours[name] for name in ("posterior", "cut_levels", "fit_condition", "bf16_noise"))
    assert ours["shift"] == 1


def test_the_default_negative_prompt_is_words_for_an_encoder_that_reads(run: Path) -> None:
    from reelwright.model.config import TextConfig
    from reelwright.pipelines.cli.generate_options import (
        ContentOptions,
        MachineOptions,
        RefineOptions,
        SamplingOptions,
        ShapeOptions,
    )
    from reelwright.pipelines.cli.generate_settings import Asked
    from reelwright.pipelines.generate.run import find_source

    def negative(content: ContentOptions, text: TextConfig | None) -> str:
        rest = (ShapeOptions(), SamplingOptions(), MachineOptions(), RefineOptions())
        return Asked(find_source(run), content, *rest).settings([], text)[0].guidance.negative

    assert negative(ContentOptions(), TextConfig(kind="umt5", path="x")) == NEGATIVE
    assert negative(ContentOptions(), None) == "", "hashed words mean nothing"
    assert negative(ContentOptions(negative="rain"), None) == "rain"


def test_a_size_class_follows_the_picture(tmp_path: Path) -> None:
    import cv2

    from reelwright.pipelines.generate.initial import Beginning

    cv2.imwrite(str(tmp_path / "tall.png"), np.zeros((800, 450, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "square.png"), np.zeros((90, 90, 3), np.uint8))
    found = {
        (name, size): Beginning(image=tmp_path / name if name else None).size_of_class(size)
        for name in ("", "tall.png", "square.png")
        for size in ("480p", "720p")
    }
    assert {key: (size.height, size.width) for key, size in found.items()} == {
        ("", "480p"): (480, 832), ("", "720p"): (704, 1312),
        ("tall.png", "480p"): (832, 480), ("tall.png", "720p"): (1248, 736),
        ("square.png", "480p"): (640, 640), ("square.png", "720p"): (960, 960),
    }  # fmt: skip


def test_a_picture_covers_or_is_stretched(tmp_path: Path) -> None:
    import cv2

    from reelwright.pipelines.generate.conditions import read_image

    picture = np.zeros((40, 120, 3), np.uint8)
    picture[:, 40:80] = 200  # the middle third
    cv2.imwrite(str(tmp_path / "wide.png"), picture)
    cover, stretch = (read_image(tmp_path / "wide.png", (48, 48), fit) for fit in ("cover", "stretch"))
    assert cover[:, 24, 2].mean() > 0.5, "its edges are cut off"
    assert stretch[:, 24, 2].mean() == -1, "they are still there"
    assert stretch[:, 24, 24].mean() > 0.5


def test_a_span_is_what_a_player_shows(tmp_path: Path) -> None:
    film = write(tmp_path / "film.mp4", frames(40), fps=25)
    facts = read_shown(film)
    assert (facts.width, facts.height, facts.rate) == (160, 96, 25)
    assert facts.duration_s == pytest.approx(1.6, abs=0.01)
    from reelwright.model.sampling.video_file import to_frames

    def numbers(start: int, stop: int, fps: float) -> list[int]:
        return [number_of(f.mean(-1)) for f in to_frames(read_span(film, (160, 96), start, stop, fps=fps))]

    assert numbers(3, 8, 12.5) == [6, 8, 10, 12, 14]
    assert numbers(0, 3, 50) == [0, 0, 1]
    assert numbers(38, 43, 25) == [38, 39, 39, 39, 39]


def test_a_video_whose_clock_begins_late_is_read_from_its_first_frame(film: Path, tmp_path: Path) -> None:
    import av

    late = tmp_path / "late.mkv"
    with av.open(str(film)) as source, av.open(str(late), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                shift = int(10 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                out.mux(packet)
    assert read_shown(late).duration_s == pytest.approx(read_shown(film).duration_s, abs=0.002)
    spans = [read_span(file, (160, 96), 3, 40, fps=25) for file in (film, late)]
    torch.testing.assert_close(*spans, rtol=0, atol=0)


def test_a_spool_gives_back_what_it_was_given(tmp_path: Path) -> None:
    video = torch.rand(2, 3, 7, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    spool = Spool(tmp_path, 2)
    for part in video.split([3, 4], 2):
        spool.write(part)
    assert spool.frames == 7
    torch.testing.assert_close(spool.read(2, 6), video[:, :, 2:6], rtol=0, atol=1 / 255 + 1e-6)
