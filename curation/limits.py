"""Limits of one file, one call into a sandbox and one run, as a recipe's `limits` has them."""

from pydantic import Field

from reelwright.curation.scan import ScanLimits


class Limits(ScanLimits, frozen=True, extra="forbid"):
    """Bounds that keep one hostile file from costing more than itself."""

    memory_mib: int = Field(2048, ge=256, description="resident memory of a decoding process")
    stall_s: float = Field(60.0, gt=0, description="seconds without a decoded frame after which a file is given up")
    max_s: float = Field(21600.0, gt=0, description="seconds that one step on a file, such as its scan, may take")
    attempts: int = Field(3, ge=1, description="times work is tried again after a worker or a node was lost")
    input_cache_mib: int = Field(
        20_480, ge=0, description="disk of a machine for copies of remote inputs, so that each is fetched once; 0: none"
    )
    max_cost_usd: float = Field(0.0, ge=0, description="what all chat models of a run may cost together; 0: no limit")
