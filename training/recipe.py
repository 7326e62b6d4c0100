"""A training recipe: the YAML file that, with a snapshot, a training run is fully described by."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from reelwright.model.config import (
    STRIDE,
    AttentionConfig,
    CodecConfig,
    DiTConfig,
    LoRAConfig,
    Part,
    TextConfig,
    TimestepShift,
)
from reelwright.training.batch import TASKS
from reelwright.training.mix import check_shares
from reelwright.training.pair_config import PairConfig
from reelwright.training.registry import DEFAULT, ObjectiveConfig, as_config, config_of

CHANGEABLE = {"parallel", "sampling", "samples", "checkpoints", "log", "validation", "guard", "steps"}
"""Sections that decide no weight of a step, or may change between resumes of a run."""


Origin = Literal["precomputed", "on_the_fly", "cached"]


class EncodeConfig(Part):
    """Where latents and text states come from: one word for both, or one for each."""

    latents: Origin = Field(
        "precomputed",
        description="precomputed by `reel precompute`; on_the_fly: another window at each draw; cached: encoded at the "
        "first draw, then read from this machine's disk",
    )
    text: Origin = Field("precomputed", description="states of captions: precomputed, on_the_fly or cached")
    cache_dir: str = Field("", description="folder of what is cached; empty: reelwright/ in the user's cache folder")
    cache_gib: float = Field(100.0, gt=0, description="size of that folder; beyond it, what was read longest ago goes")

    @model_validator(mode="before")
    @classmethod
    def _one_word_is_both(cls, data: Any) -> Any:
        return {"latents": data, "text": data} if isinstance(data, str) else data

    @property
    def stored(self) -> tuple[bool, bool]:
        """Whether latents, and whether text states, must be in the store before a run begins."""
        return self.latents == "precomputed", self.text == "precomputed"


class DataConfig(Part):
    """Which pieces of the snapshot a step sees."""

    sizes: tuple[str, ...] = Field(
        ("256p",), min_length=1, description="area classes: 256p is 256×256, 480p 480×832, 720p 720×1280; or 320x192"
    )
    size_weights: tuple[float, ...] = Field((), description="how often each size is drawn; empty: equally often")
    frames: tuple[int, ...] = Field(
        (1, 93), min_length=1, description="pixel frames of a bucket; 1 for images; 4k + 1 each"
    )
    fps: float = Field(15, gt=0, description="frame rate that clips are sampled at")
    frame_rates: tuple[float, ...] = Field((), description="instead, one for each of `frames`; empty: fps for all")
    pair: PairConfig | None = Field(None, description="pairs of a clip and its first-stage version, for refinement")
    ratios: tuple[str, ...] = Field(
        ("9:16", "2:3", "3:4", "1:1", "4:3", "3:2", "16:9"),
        min_length=1,
        description="width:height; a clip goes to the nearest",
    )
    tokens_per_batch: int = Field(65536, ge=1, description="tokens of a micro-batch, at most (one sample at least)")
    batches_per_step: int = Field(8, ge=1, description="micro-batches of an optimizer step, over all ranks")
    mix: dict[str, float] = Field(
        {}, description="snapshot: share of the samples, which add up to 1; empty: the one that --snapshot names"
    )
    encode: EncodeConfig = EncodeConfig()
    windows: int = Field(1, ge=1, description="windows of a clip that are encoded, at most; each draw shows one")
    window_stride_s: float = Field(1.0, gt=0, description="seconds from one window of a clip to the next, at least")
    caption_column: str = Field("captions", description="caption variants; `caption` is used where it is empty")
    caption_kinds: tuple[str, ...] = Field(
        (), description="of the variants, these kinds (source, caption, composed, summary, …); empty: all but composed"
    )
    caption_dropout: float = Field(0.1, ge=0, le=1, description="share of the samples that get the empty caption")
    store_dtype: Literal["bf16", "fp16", "fp32"] = Field("bf16", description="of precomputed latents and text states")
    holdout: float = Field(0.02, ge=0, lt=1, description="share of the clips kept for validation")
    prefetch: int = Field(4, ge=1, description="micro-batches read ahead")
    workers: int = Field(2, ge=0, description="threads that read; 0: the loop itself")

    @field_validator("mix")
    @classmethod
    def _shares_add_up(cls, mix: dict[str, float]) -> dict[str, float]:
        check_shares(mix)
        return mix

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if any(f < 1 or f % STRIDE[0] != 1 for f in self.frames):
            raise ValueError(f"frames must be 4k + 1 (1, 33, 61, 93), as the VAE packs time by 4: {self.frames}")
        if self.size_weights and (len(self.size_weights) != len(self.sizes) or min(self.size_weights) <= 0):
            raise ValueError(f"size_weights must be one number above 0 for each of the sizes {self.sizes}")
        if self.frame_rates and (len(self.frame_rates) != len(self.frames) or min(self.frame_rates) <= 0):
            raise ValueError(f"frame_rates must be one number above 0 for each of the frames {self.frames}")
        if self.pair:
            for frames in self.frames:
                if frames > 1:
                    self.pair.times(self.rate_of(frames))
            if self.pair.base and self.encode.latents != "precomputed":
                raise ValueError(
                    "data.pair.base takes a second network beside the trained one, so data.encode.latents must be "
                    "precomputed"
                )
        return self

    def __hash__(self) -> int:  # a mix is a dict, and memory is planned once per recipe, by its hash
        return hash(self.model_dump_json())

    @property
    def rates(self) -> dict[int, float]:
        """Frame rate of each number of frames that has one of its own."""
        return dict(zip(self.frames, self.frame_rates, strict=True)) if self.frame_rates else {}

    def rate_of(self, frames: int) -> float:
        """Return the frame rate at which windows of a number of frames are sampled."""
        return self.rates.get(frames, self.fps)


class TaskConfig(Part):
    """Weights of the tasks, which differ in the number of clean frames only (report 4.1); those not named are off."""

    t2i: float = Field(1.0, ge=0, description="text to image")
    t2v: float = Field(1.0, ge=0, description="text to video")
    i2v: float = Field(0.0, ge=0, description="image to video: the first frame is clean")
    continuation: float = Field(0.0, ge=0, description="the first `condition_frames` are clean")
    condition_frames: tuple[int, ...] = Field(
        (13,), description="clean pixel frames of a continuation, one drawn a batch; 4k + 1 each"
    )

    @model_validator(mode="after")
    def _check(self) -> "TaskConfig":
        if not any(getattr(self, task) for task in TASKS):
            raise ValueError("at least one task needs a weight above 0, and tasks that a recipe does not name are off")
        if any(f < 1 or f % STRIDE[0] != 1 for f in self.condition_frames):
            raise ValueError(f"condition_frames must be 4k + 1: {self.condition_frames}")
        return self


class SamplingConfig(TimestepShift):
    """How videos are sampled, by `reel generate` and while training.

    A recipe that says its shift under `objective` samples by that.
    """


class OptimConfig(Part):
    """AdamW."""

    lr: float = Field(1e-4, gt=0, description="learning rate")
    betas: tuple[float, float] = Field((0.9, 0.95), description="decay of the gradient's mean and of its square's")
    eps: float = Field(1e-8, gt=0, description="added to the root of the square's mean")
    weight_decay: float = Field(0.01, ge=0, description="on matrices; norms and biases have none")
    warmup_steps: int = Field(0, ge=0, description="linear warm-up; constant after it")
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm; larger gradients are scaled down to it")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0: none are kept")


class GuardConfig(Part):
    """A step whose loss or gradient is not finite, or whose norm leaps, changes no weight."""

    max_norm: float = Field(1e3, gt=0, description="gradient norm above which a step is skipped")
    max_ratio: float = Field(
        20.0, ge=0, description="skipped too: a norm so many times the median of the last 100 steps; 0: any is taken"
    )
    max_skipped: int = Field(10, ge=0, description="skipped steps in a row after which the run stops")


class ParallelConfig(Part):
    """Ranks of a run: shard × replicate × context."""

    shard: int = Field(0, ge=0, description="ranks a weight is sharded over (FSDP2); 0: all that remain")
    replicate: int = Field(1, ge=1, description="replicas of the shards (HSDP)")
    reshard_after_forward: bool = Field(True, description="true: ZeRO-3; false: ZeRO-2")
    gradients: Literal["sharded", "whole"] = Field(
        "sharded", description="between a step's micro-batches; whole: one reduction a step, more memory"
    )
    context: int = Field(1, ge=1, description="ranks that share a sample's tokens")
    context_form: Literal["ulysses", "ring"] = Field("ulysses", description="all-to-all over heads, or ring attention")


class ComputeConfig(Part):
    """Precision and memory."""

    precision: Literal["fp32", "bf16"] = Field(
        "bf16", description="bf16: autocast over fp32 weights (bf16 under lora), which travel between GPUs in bf16"
    )
    checkpointing: Literal["none", "attention", "selective", "full"] = Field(
        "none",
        description="activations computed again in the backward pass: none; attention (all but outputs of long "
        "attention); selective (all but those and every matrix product's); full (all)",
    )
    compile: bool = Field(False, description="blocks by torch.compile")


MOST_VALIDATED = 4096
"""Held-out clips that a plan chooses: no run validates on more."""


class ValidationConfig(Part):
    """Loss on the held-out clips, per task and timestep band, with fixed noise."""

    every: int = Field(500, ge=0, description="steps; 0: never. The first and last step are always validated")
    clips: int = Field(64, ge=1, le=MOST_VALIDATED, description="held-out clips, at most")
    bands: int = Field(4, ge=1, description="equal bands of t")


class SampleConfig(Part):
    """Videos generated while training."""

    every: int = Field(0, ge=0, description="steps; 0: never")
    prompts: tuple[str, ...] = Field((), description="one video each")
    size: tuple[int, int] = Field((256, 256), description="width, height")
    frames: int = Field(93, ge=1, description="of a video; 4k + 1")
    steps: int = Field(50, ge=1, description="sampling steps")
    guidance: float = Field(4.0, ge=0, description="how far to lead away from the empty prompt; 1: none")
    distilled: bool = Field(False, description="by the points of a distilled network, which wants guidance 1")


class CheckpointConfig(Part):
    """When a run is saved."""

    every: int = Field(500, ge=1, description="steps")
    keep: int = Field(3, ge=1, description="newest checkpoints kept")


class LogConfig(Part):
    """What is written down of a run."""

    every: int = Field(10, ge=1, description="steps between lines")
    tensorboard: bool = Field(True, description="write RUN/tensorboard/")
    wandb: str = Field("", description="Weights & Biases project; needs the extra [wandb]")
    clip_loss_bands: int = Field(
        0, ge=0, le=100, description="equal bands of t that each clip's loss goes into clip_losses by; 0: none does"
    )


class TrainRecipe(Part):
    """Everything but the data that a training run depends on."""

    model: DiTConfig = DiTConfig()
    attention: AttentionConfig = AttentionConfig()
    init: str = Field("", description="checkpoint, or folder of published weights, to start from; empty: random")
    lora: LoRAConfig | None = None
    codec: CodecConfig = CodecConfig()
    text: TextConfig = TextConfig()
    data: DataConfig = DataConfig()
    tasks: TaskConfig = TaskConfig()
    objective: Annotated[SerializeAsAny[ObjectiveConfig], BeforeValidator(as_config)] = config_of(DEFAULT)()
    optim: OptimConfig = OptimConfig()
    guard: GuardConfig = GuardConfig()
    parallel: ParallelConfig = ParallelConfig()
    compute: ComputeConfig = ComputeConfig()
    validation: ValidationConfig = ValidationConfig()
    sampling: SamplingConfig = SamplingConfig()
    samples: SampleConfig = SampleConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    steps: int = Field(1000, ge=1, description="optimizer steps")
    seed: int = Field(0, description="of first weights, order of samples and noise")

    @model_validator(mode="before")
    @classmethod
    def _unnamed_tasks_are_off(cls, data: Any) -> Any:
        """Switch off tasks that a recipe does not name: `tasks: {t2v: 1}` is no image training."""
        tasks = data.get("tasks") if isinstance(data, dict) else None
        if isinstance(tasks, dict) and set(TASKS) & set(tasks):
            return {**data, "tasks": {**dict.fromkeys(TASKS, 0.0), **tasks}}
        return data

    @model_validator(mode="before")
    @classmethod
    def _sample_as_trained(cls, data: Any) -> Any:
        """Sample by the shift that is trained with, unless `sampling` says another."""
        objective, sampling = (data.get("objective"), data.get("sampling")) if isinstance(data, dict) else (None, None)
        if isinstance(objective, TimestepShift):
            objective = objective.model_dump(exclude_defaults=True)
        if not isinstance(objective, dict) or not isinstance(sampling, dict | None):
            return data
        trained = {name: objective[name] for name in TimestepShift.model_fields if name in objective}
        return {**data, "sampling": {**trained, **(sampling or {})}} if trained else data

    @model_validator(mode="after")
    def _losses_are_of_clips(self) -> "TrainRecipe":
        if self.log.clip_loss_bands and not self.objective.loss_is_of_clips:
            raise ValueError(
                f"log.clip_loss_bands {self.log.clip_loss_bands} keeps each clip's loss, but a loss of the objective "
                f"{self.objective.kind} does not say how well a clip is predicted; leave it at 0"
            )
        return self

    @property
    def in_regions(self) -> bool:
        """Whether no graph holds this recipe's attention: blocks are then compiled before and after it."""
        return self.parallel.context > 1 and self.parallel.context_form == "ring" and self.attention.form == "sparse"

    @property
    def fingerprint(self) -> str:
        """16 hex digits over all settings that decide what is learned.

        Logging, checkpoints, guards, layout over ranks, memory savings, reading ahead and the number of steps are left
        out: they may change between resumes. Settings at their defaults are left out too, so that a field that a new
        version adds leaves running runs their fingerprint.
        """
        same = {"checkpointing": ComputeConfig().checkpointing, "compile": ComputeConfig().compile}
        read = {"workers": DataConfig().workers, "prefetch": DataConfig().prefetch, "encode": EncodeConfig()}
        core = self.model_copy(
            update={
                "compute": self.compute.model_copy(update=same),
                "data": self.data.model_copy(update=read),
                "objective": self.objective.deciding(),
            }
        )
        parts = core.model_dump(mode="json", exclude_defaults=True, exclude=CHANGEABLE)
        if self.data.encode.latents == "on_the_fly":  # shows other windows; all else gives the same numbers
            parts.setdefault("data", {})["encode"] = "on_the_fly"
        if self.objective.kind != DEFAULT:
            parts.setdefault("objective", {})["kind"] = self.objective.kind
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
