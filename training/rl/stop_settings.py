"""Settings of the rule that ends a run whose rewards are cheated."""

from pydantic import Field

from reelwright.model.config import Part


class StopSettings(Part):
    """When a run ends before its last step."""

    window: int = Field(20, ge=2, description="steps that rewards are smoothed over; no verdict before so many")
    fall: float = Field(
        4.0,
        ge=0,
        description="deviations of its noise that a held-out reward falls by, from its best; 0: the rule is off",
    )
    patience: int = Field(10, ge=1, description="steps in a row that the rule must hold for")
