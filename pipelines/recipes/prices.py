"""A user's rates for `reel curate --plan --prices FILE`: a YAML file of numbers, with their units in their names."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from reelwright.recipe_files import RecipeError, load

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A number from 0 up."""


class Prices(BaseModel, frozen=True, extra="forbid"):
    """Rates in USD, and the statements that a price rests on. A rate that the file does not name is 0."""

    usd_per_cpu_core_hour: Rate = Field(0.0, description="of a core of a worker")
    cpu_busy: float = Field(
        1.0, gt=0, le=1, allow_inf_nan=False, description="share of the paid core hours in which workers work"
    )
    usd_per_gpu_hour: Rate = Field(0.0, description="of any GPU")
    usd_per_gpu_hour_of: dict[str, Rate] = Field({}, description="of the GPU of an annotator, by its name")
    gpu_s_per_clip: dict[str, Rate] = Field(
        {}, description="seconds of a GPU per clip, by an annotator's name: stated, as nothing here measures them"
    )
    usd_per_gb_month: Rate = Field(0.0, description="of 10^9 bytes that are stored for a month")
    months: Rate = Field(1.0, description="for which clips are stored")
    usd_per_1000_reads: Rate = Field(0.0, description="requests that read an object store (GET, HEAD)")
    usd_per_1000_writes: Rate = Field(0.0, description="requests that write to one (PUT, POST, LIST)")
    usd_per_gb_read: Rate = Field(0.0, description="of 10^9 bytes that leave object stores: of inputs and of the store")
    usd_per_gb_sent: Rate = Field(0.0, description="of 10^9 bytes that are sent to the object store of the store")
    usd_per_million_input_tokens: Rate | None = Field(
        None, description="of chat models; null: as each annotator's chat says"
    )
    usd_per_million_output_tokens: Rate | None = Field(None, description="likewise")

    @model_validator(mode="after")
    def _name_both_token_rates(self) -> Self:
        if (self.usd_per_million_input_tokens is None) != (self.usd_per_million_output_tokens is None):
            raise ValueError("give both usd_per_million_input_tokens and usd_per_million_output_tokens, or neither")
        return self

    def gpu_hour_of(self, annotator: str) -> float:
        """Return the price of an hour of an annotator's GPU."""
        return self.usd_per_gpu_hour_of.get(annotator, self.usd_per_gpu_hour)


def load_prices(path: Path) -> Prices:
    """Read a file of rates.

    Raises:
        RecipeError: it cannot be read, has an unknown key, a number that is none or below 0, or names an annotator that
            does not exist.
    """
    from reelwright.annotate.registry import available

    prices = load(Prices, path, example="usd_per_cpu_core_hour: 0.04")
    for setting in ("usd_per_gpu_hour_of", "gpu_s_per_clip"):
        for name in getattr(prices, setting):
            if name not in available():
                known = ", ".join(available())
                raise RecipeError(f"{path}: '{setting}.{name}': there is no annotator of that name; there are {known}")
    return prices
