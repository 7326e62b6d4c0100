"""`reel generate`: from a checkpoint's folder to files that say how they were made; what it refuses, and how."""

import hashlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from benchmarks.dct_codec import moving
from reelwright.curation.media.frames import Frames, read
from reelwright.errors import UserError
from reelwright.model.checkpoint import save_model
from reelwright.model.config import DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.model.sampling.settings import Settings
from reelwright.model.sampling.video_file import VideoWriter, read_about, to_frames, write_image, write_video
from reelwright.pipelines.generate.initial import Beginning
from reelwright.pipelines.generate.run import LoadOptions, default_shift, encoders, find_source, load
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.recipe import TrainRecipe
from reelwright.training.sample_shape import sample_shape
from tests.conftest import Reel
from tests.footage import frames, psnr, write
from tests.model.published import save_umt5, save_vae

MODEL = DiTConfig(
    hidden_size=48, depth=1, num_heads=2, caption_channels=64, adaln_tembed_dim=32, frequency_embedding_size=32,
    text_tokens=16,
)  # fmt: skip
SAMPLES = {"size": (64, 48), "frames": 9, "steps": 2}


PUBLISHED = MODEL.model_copy(update={"caption_channels": 32})


def network(seed: int = 0, config: DiTConfig = MODEL) -> DiT:
    torch.set_num_threads(1)
    model = DiT(config).init_weights(seed)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "adaLN" in name or name.startswith("final_layer"):
                weight.copy_(0.1 * torch.randn(weight.shape, generator=noise))
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with two checkpoints; the newer has averaged weights, which are another network's."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = TrainRecipe(model=MODEL, samples=SAMPLES, data={"fps": 12})
    kept = Checkpoints(folder / "checkpoints", 3)
    about = {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_fingerprint": recipe.fingerprint,
        "snapshot": {"name": "beach", "content_hash": "c0ffee", "num_clips": 3, "store": "STORE"},
    }
    last = {f"model.{n}": w for n, w in network(0).state_dict().items()}
    kept.save(10, last, about)
    kept.save(20, last | {f"ema.{n}": w for n, w in network(1).state_dict().items()}, about)
    kept.wait()
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("film") / "film.mp4", frames(40), fps=25)


# --- files -----------------------------------------------------------------------------------------------------------


def test_an_mp4_shows_what_was_written_and_says_how_it_was_made(tmp_path: Path) -> None:
    from skimage import data

    video = moving(data.astronaut(), (96, 128), 1.0)
    about = {"prompts": ["a “quoted” dog; it's 猫\n#=\\"], "n": 1.5, "file": "\udcff.mp4"}
    path = write_video(tmp_path / "x.mp4", video, 15, about)
    facts, (shown,) = read(path.read_bytes(), [Frames(count=9, height=96, color="rgb")])
    assert (facts.width, facts.height, facts.num_frames, facts.fps) == (128, 96, 9, 15)
    for seen, given in zip(shown, to_frames(video), strict=True):
        assert psnr(seen, given) > 30
        assert np.abs(seen.reshape(-1, 3).mean(0) - given.reshape(-1, 3).mean(0)).max() < 2  # colours are not shifted
    assert read_about(path) == about
    assert [p.name for p in tmp_path.iterdir()] == ["x.mp4"]


def test_a_video_may_come_in_parts_and_a_broken_one_leaves_nothing(tmp_path: Path) -> None:
    video = torch.zeros(3, 9, 32, 32)
    with VideoWriter(tmp_path / "x.mp4", 24) as writer:
        writer.write(video[:, :5])
        writer.write(video[:, 5:])
        writer.finish({})
    assert read((tmp_path / "x.mp4").read_bytes())[0].num_frames == 9
    with VideoWriter(tmp_path / "y.mp4", 24) as writer:
        writer.write(video)  # and never finished
    with pytest.raises(UserError, match="no frames"):
        write_video(tmp_path / "z.mp4", video[:, :0], 24)
    with pytest.raises(UserError, match="cannot write"):
        write_video(tmp_path / "nowhere" / "z.mp4", video, 24)
    assert [p.name for p in tmp_path.iterdir()] == ["x.mp4"]


def test_a_png_is_exact_and_says_how_it_was_made(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    image = torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1
    path = write_image(tmp_path / "x.png", image, {"seed": 3, "p": "猫", "file": "\udcff.png"})
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], picture)
    assert read_about(path) == {"seed": 3, "p": "猫", "file": "\udcff.png"}
    (tmp_path / "plain.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    with pytest.raises(UserError, match="does not say"):
        read_about(tmp_path / "plain.png")


# --- the command -----------------------------------------------------------------------------------------------------

Invoke = Callable[..., Any]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """`reel` in this process, which is quicker."""
    from typer.testing import CliRunner

    from reelwright.pipelines.cli.app import app
    from reelwright.pipelines.cli.main import load_commands

    load_commands()
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_run_s_newest_checkpoint_makes_a_video(run: Path, reel: Reel, tmp_path: Path) -> None:
    made = reel("generate", run, "--prompt", "a dog", "--out", "x.mp4")
    assert made.returncode == 0, made.stderr
    assert "wrote x.mp4" in made.stdout
    assert "64 wide × 48 high × 9 frames" in made.stdout
    facts = read((tmp_path / "x.mp4").read_bytes())[0]
    assert (facts.width, facts.height, facts.num_frames, facts.fps) == (64, 48, 9, 12)
    about = read_about(tmp_path / "x.mp4")
    assert about["prompts"] == ["a dog"]
    assert (about["weights_used"], about["run"]) == ("ema", "tiny")
    assert about["step"] == 20
    assert about["snapshot"]["content_hash"] == "c0ffee"
    assert "standin" in about["codec"]
    assert "standin" in about["text_encoder"]
    assert about["settings"] == {
        **Settings().flat(), "width": 64, "height": 48, "frames": 9, "overlap": 5, "steps": 2,
        "shift": about["settings"]["shift"]
    }  # fmt: skip


def test_attention_may_be_sparse_for_sampling_alone(run: Path, here: Invoke, tmp_path: Path) -> None:
    asked = ("generate", run, "--prompt", "a dog")
    for name, more in {"dense": (), "all": ("--keep", "1"), "sparse": ("--keep", "0.1")}.items():
        made = here(*asked, "--out", f"{name}.mp4", *(("--attention", "sparse") if more else ()), *more)
        assert made.exit_code == 0, made.output
    assert read_about(tmp_path / "dense.mp4")["attention"] == "dense"
    assert read_about(tmp_path / "sparse.mp4")["attention"]["keep"] == 0.1


def test_several_prompts_a_lora_segments_and_a_beginning(run: Path, film: Path, here: Invoke, tmp_path: Path) -> None:
    from reelwright.model.lora.adapters import add_lora, save_lora

    model = network(1)
    add_lora(model, LoRAConfig(rank=2, alpha=2), name="a", seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora." in name and ".up." in name:
                weight.normal_()
    (tmp_path / "a").mkdir()  # as `reel checkpoint import` and `export --lora` leave it
    save_lora(model, tmp_path / "a" / "lora.safetensors", name="a")
    common = ("generate", run, "-p", "a dog", "-p", "a cat", "--video", film, "--overlap", "5", "--segments", "2", "-q")
    plain = here(*common, "--out", "x.mp4")
    assert plain.exit_code == 0, plain.output
    adapted = here(*common, "--lora", "a:0.5", "--no-cache", "--sequential", "--out", "y.mp4")
    assert adapted.exit_code == 0, adapted.output
    assert adapted.stdout.split("\n")[:2] == ["wrote y-1.mp4", "wrote y-2.mp4"]
    about = read_about(tmp_path / "y-2.mp4")
    assert about["prompts"] == ["a cat", "a cat"]
    assert about["seed"] == 1
    trained = [default_shift(find_source(run), Settings.of(width=48, height=64, frames=9), n) for n in (5, 5)]
    assert about["settings"]["later_shift"] == about["settings"]["shift"] == pytest.approx(trained[0])
    lora = str(tmp_path / "a" / "lora.safetensors")
    digest = hashlib.sha256(Path(lora).read_bytes()).hexdigest()
    assert [(one["file"], one["weight"], one["file_sha256"]) for one in about["loras"]] == [(lora, 0.5, digest)]
    assert about["begins_with"]["file"] == str(film)
    x, y = (read((tmp_path / f"{n}-1.mp4").read_bytes(), [Frames(count=13, height=48, color="rgb")]) for n in "xy")
    assert x[0].num_frames == 13
    assert np.abs(x[1][0][:4].astype(int) - y[1][0][:4]).mean() < 4  # both begin with the film
    assert np.abs(x[1][0][6:].astype(int) - y[1][0][6:]).mean() > 4  # and go on by other weights


def test_prompts_are_read_as_they_are_typed(run: Path, here: Invoke, tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("a dog wakes\n\nit runs\n")
    made = here("generate", run, "--prompts-file", "story.txt", "--overlap", "5", "--out", "x.mp4", "--weights", "last")
    assert made.exit_code == 0, made.output
    assert read_about(tmp_path / "x.mp4")["prompts"] == ["a dog wakes", "it runs"]
    assert read_about(tmp_path / "x.mp4")["weights_used"] == "last"
    assert read((tmp_path / "x.mp4").read_bytes())[0].num_frames == 13


def test_a_single_frame_is_a_png(run: Path, here: Invoke, tmp_path: Path) -> None:
    made = here("generate", run, "-p", "a dog", "--frames", "1", "--size", "48x64", "--out", "x.png")
    assert made.exit_code == 0, made.output
    assert cv2.imread(str(tmp_path / "x.png")).shape == (64, 48, 3)
    assert read_about(tmp_path / "x.png")["settings"]["width"] == 48


REFUSED = {
    "no prompt": ((), "--prompt"),
    "size": (("-p", "x", "--size", "100x64"), "the width must be a multiple of 16"),
    "words for a size": (("-p", "x", "--size", "big"), "WIDTHxHEIGHT"),
    "frames": (("-p", "x", "--frames", "10"), "4k + 1"),
    "picture of many": (("-p", "x", "--out", "x.png"), "--frames 1"),
    "both": (("-p", "x", "--image", "a.png", "--video", "a.mp4"), "give one of them"),
    "no image": (("-p", "x", "--image", "a.png"), "no file a.png"),
    "no lora": (("-p", "x", "--lora", "a.safetensors:2"), "no LoRA file a.safetensors"),
    "no folder": (("-p", "x", "--out", "no/x.mp4"), "there is no folder"),
    "no device": (("-p", "x", "--device", "abacus"), "--device abacus"),
    "kind": (("-p", "x", "--out", "x.gif"), ".mp4"),
    "keep of dense": (("-p", "x", "--keep", "0.5"), "--attention sparse"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_sentence(case: str, run: Path, here: Invoke) -> None:
    from reelwright.errors import ReelError

    arguments, says = REFUSED[case]
    result = here("generate", run, "--out", "x.mp4", *arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, ReelError), result.exception
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)


def test_a_choice_that_there_is_not_is_wrong_usage(here: Invoke) -> None:
    result = here("generate", "run", "-p", "x", "--out", "x.mp4", "--attention", "flash")
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "'--attention'" in said
    assert "'flash' is not one of 'auto', 'dense', 'sparse'" in said


def test_the_help_shows_options_by_group(here: Invoke) -> None:
    """Every option is listed once, under the heading of its group."""
    said = here("generate", "--help").output
    sections = dict(re.findall(r"^(\w[\w ]*):\n((?:  .*\n)+)", said, re.MULTILINE))
    options = {name: re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE) for name, text in sections.items()}
    assert options == {
        "Arguments": [],
        "Options": ["--help"],
        "Content": ["--prompt", "--prompts-file", "--image", "--video", "--fit", "--negative", "--seed"],
        "Size and length": ["--size", "--frames", "--fps", "--segments", "--overlap"],
        "Sampling": [
            "--steps",
            "--guidance",
            "--rule",
            "--shift",
            "--distilled",
            "--enhance-hf",
            "--zero-init",
            "--published",
            "--attention",
            "--keep",
        ],
        "Refinement": ["--refine", "--to", "--spatial-only", "--timing", "--refine-attention", "--refine-keep"],
        "Weights": ["--weights", "--codec", "--text-encoder", "--lora"],
        "Machine and memory": ["--device", "--dtype", "--tile", "--offload-cache", "--sequential", "--no-cache"],
        "Output": ["--out", "--force", "--quiet"],
    }


def test_a_file_that_is_there_is_kept(run: Path, here: Invoke, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("mine")
    made = here("generate", run, "-p", "a dog", "--out", "x.mp4")
    assert made.exit_code == 1
    assert "--force" in str(made.exception)
    assert (tmp_path / "x.mp4").read_text() == "mine"


# --- sources ---------------------------------------------------------------------------------------------------------


def test_weights_are_the_averaged_ones_where_there_are_any(run: Path) -> None:
    newest, first = (find_source(run / "checkpoints" / f"step-000000{n}") for n in (20, 10))
    for source, ema, seed in ((newest, None, 1), (newest, False, 0), (first, None, 0)):
        weights = load(source, LoadOptions(ema=ema)).generator.model.state_dict()
        for name, weight in network(seed).state_dict().items():
            torch.testing.assert_close(weights[name], weight)


def test_published_weights_need_to_be_told_their_codec(tmp_path: Path) -> None:
    from reelwright.model.config import CodecConfig, TextConfig

    save_model(network(), MODEL, tmp_path / "dit")
    source = find_source(tmp_path / "dit")
    with pytest.raises(UserError, match="add --codec"):
        load(source)
    with pytest.raises(UserError, match="add --text-encoder"):
        load(source, LoadOptions(codec=CodecConfig()))
    loaded = load(source, LoadOptions(codec=CodecConfig(), text=TextConfig(dim=64)))
    assert loaded.about["weights_used"] == "published"
    assert default_shift(source, Settings()) == 12


def test_exported_weights_know_how_they_were_trained(run: Path, call: Reel, tmp_path: Path) -> None:
    """Codec, text encoder, size and noise levels need not be said again, and the frames are the run's own."""
    exported = call("checkpoint", "export", str(run), "out", "--ema")
    assert exported.returncode == 0, exported.stderr
    program, *arguments = shlex.split(exported.stdout.splitlines()[-1].removeprefix("next: "))
    assert program == "reel"
    for command in (arguments, ["generate", str(run), *arguments[2:-1], "own.mp4"]):
        made = call(*command)
        assert made.returncode == 0, made.stderr
    about = read_about(tmp_path / "x.mp4")
    assert about["weights_used"] == "exported"
    assert about["weights_from"]["snapshot"]["name"] == "beach", "reel lineage goes on from here"
    need = Frames(count=9, color="rgb")
    (ours,), (theirs,) = (read((tmp_path / name).read_bytes(), [need])[1] for name in ("x.mp4", "own.mp4"))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        ({"data": {"sizes": ["112x64"], "frames": [9]}}, (112, 64, 9)),
        ({"data": {"sizes": ["256p", "480p"]}}, (832, 480, 93)),
        ({"data": {"sizes": ["256p"], "frames": [1]}}, (256, 256, 1)),
        ({"data": {"sizes": ["480p"]}, "samples": {"size": (64, 48)}}, (64, 48, 93)),
        ({"data": {"sizes": ["112x64"]}, "samples": {"every": 10, "prompts": ["x"]}}, (256, 256, 93)),
    ],
)
def test_the_size_is_that_of_the_run_s_samples_or_its_largest_bucket(recipe: dict[str, Any], shape: Any) -> None:
    assert sample_shape(TrainRecipe(**recipe)) == shape


@pytest.mark.exhaustive
def test_a_published_pipeline_s_folder_is_enough(tmp_path: Path, here: Invoke) -> None:
    save_vae(save_umt5(tmp_path / "published"))
    save_model(network(config=PUBLISHED), PUBLISHED, tmp_path / "published" / "dit")
    made = here(
        "generate", "published", "-p", "two cats", "--negative", "rain", "--size", "32x32", "--frames", "5",
        "--steps", "2", "--dtype", "bf16", "--out", "x.mp4",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    about = read_about(tmp_path / "x.mp4")
    assert about["codec"].startswith("wan-")
    assert about["text_encoder"].startswith("umt5-")
    assert about["settings"]["shift"] == 12
    assert about["settings"]["bf16_t"]
    assert read((tmp_path / "x.mp4").read_bytes())[0].num_frames == 5


def test_the_shift_is_that_of_training(run: Path) -> None:
    source = find_source(run)
    assert default_shift(source, Settings()) == pytest.approx(12)  # 480p × 93
    assert default_shift(source, Settings(), 13) == pytest.approx(12 * (20 / 24) ** 0.5)
    assert default_shift(source, Settings.of(width=64, height=48, frames=9)) == 1


def test_a_short_video_begins_with_what_it_has(tmp_path: Path) -> None:
    short = write(tmp_path / "short.mp4", frames(7), fps=15)
    begins = Beginning(video=short).read(Settings.of(width=64, height=48), 15)
    assert begins is not None
    assert begins.frames.shape == (3, 5, 48, 64)
    assert "only 7 frames" in begins.note


def test_a_damaged_checkpoint_is_one_sentence(run: Path, tmp_path: Path) -> None:
    from reelwright.training.errors import TrainError

    (tmp_path / "checkpoint.json").write_text(json.dumps({"format": 1, "recipe": {"model": {"depth": "many"}}}))
    with pytest.raises((UserError, TrainError)):
        find_source(tmp_path)
    with pytest.raises(UserError, match="no such checkpoint"):
        find_source(tmp_path / "none")


def test_umt5_is_bf16_on_a_gpu_unless_the_recipe_says_so_and_the_vae_has_tiles(run: Path, tmp_path: Path) -> None:
    for part in ("vae", "text_encoder"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
    published, ours = find_source(tmp_path), find_source(run)
    codec, text = encoders(published, None, None, on_gpu=True, tile=256)
    assert (codec.kind, codec.tile, codec.dtype, text.dtype) == ("wan", 256, "fp32", "bf16")
    assert encoders(published, None, None, on_gpu=False)[1].dtype == "fp32"
    assert ours.recipe is not None
    assert encoders(ours, None, None, on_gpu=True) == (ours.recipe.codec, ours.recipe.text)
    with pytest.raises(UserError, match="--tile 256 is of Wan's VAE; the codec here is dct"):
        encoders(ours, None, None, on_gpu=True, tile=256)
