"""Videos of the recipe's prompts while a run trains, in RUN/samples/step-00000100/0.mp4 and so on."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from reelwright.model.text import TextEncoder
from reelwright.training.recipe import TrainRecipe
from reelwright.training.sample_shape import SAMPLE_TILE_PX

if TYPE_CHECKING:
    from reelwright.training.distributed.world import World


class SampleWriter:
    """Write samples; the loop calls it on every rank.

    Prompts are dealt to ranks, each of which writes its own. A rank without a prompt of its own repeats another's and
    keeps nothing, as a sharded network's forward passes need all ranks. The text encoder is loaded once, for the
    prompts, and freed: beside a large network there is no room for it.
    """

    def __init__(self, recipe: TrainRecipe, folder: Path, world: "World", say: Callable[[str], None] = print) -> None:
        self.recipe, self.folder, self.world, self.say = recipe, folder / "samples", world, say
        self._codec: Any = None
        self._text: Any = None

    def __call__(self, model: nn.Module, step: int) -> None:
        """Generate this rank's samples of a step."""
        from reelwright.model.sampling.generator import Generator

        self._load()
        where = self.folder / f"step-{step:08d}"
        where.mkdir(parents=True, exist_ok=True)
        generator = Generator(model, self._codec, self._text)
        prompts, ranks = self.recipe.samples.prompts, self.world.size
        for first in range(0, len(prompts), ranks):
            i = min(first + self.world.rank, len(prompts) - 1)
            with self._precision():
                video = generator.text([prompts[i]], [self.recipe.seed + i], self._settings())[0]
            if i == first + self.world.rank:
                self._write(where, i, video, prompts[i], step)
        self.world.barrier()
        if self.world.is_first:
            self.say(f"step {step}: samples in {where}")

    def _settings(self) -> Any:
        """Return the recipe's settings, with the timestep shift that this size is trained with."""
        from reelwright.model.codec import latent_size
        from reelwright.model.sampling.settings import Settings

        own = self.recipe.samples
        width, height = own.size
        tokens = self.recipe.model.tokens(*latent_size(own.frames, height, width))
        shift = self.recipe.sampling.timestep_shift(tokens)
        return Settings.of(
            width=width, height=height, frames=own.frames, steps=own.steps, guidance=own.guidance, shift=shift,
            distilled=own.distilled,
        )  # fmt: skip

    def _precision(self) -> AbstractContextManager[Any]:
        from reelwright.training.distributed.parallel import autocast

        return autocast(self.recipe.compute, self.world.device)

    def _load(self) -> None:
        if self._codec is None:
            from reelwright.model.codec import load_codec
            from reelwright.model.text import load_text_encoder

            codec = self.recipe.codec
            by_tiles = codec.model_copy(update={"tile": codec.tile or SAMPLE_TILE_PX})  # beside AdamW's state
            self._codec = load_codec(by_tiles, device=str(self.world.device))
            encoder = load_text_encoder(self.recipe.text, device=str(self.world.device))
            self._text = Remembered(encoder, [*self.recipe.samples.prompts, ""])

    def _write(self, where: Path, i: int, video: Tensor, prompt: str, step: int) -> None:
        from reelwright.model.sampling.video_file import write_image, write_video

        metadata = {"prompt": prompt, "step": step, "recipe_fingerprint": self.recipe.fingerprint}
        if video.shape[1] == 1:
            write_image(where / f"{i}.png", video[:, 0], metadata)
        else:
            write_video(where / f"{i}.mp4", video, self.recipe.data.fps, metadata)


class Remembered(TextEncoder):
    """The states of a few texts, without the network that made them."""

    def __init__(self, encoder: TextEncoder, texts: Sequence[str]) -> None:
        self.fingerprint, self.dim, self.tokens = encoder.fingerprint, encoder.dim, encoder.tokens
        self.device = encoder.device
        self._states = dict(zip(texts, encoder.encode(list(texts)), strict=True))

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the stored state of each text."""
        return [self._states[text] for text in texts]
