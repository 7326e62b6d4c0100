"""The table of what a curation costs, by stage, in all and per 1,000 hours of footage, at a user's rates."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from reelwright.pipelines.annotate.spending import short
from reelwright.pipelines.curate.account import Account, Work
from reelwright.pipelines.recipes.prices import Prices

PER_HOURS = 1000
HEADS = ("stage", "CPU s", "GPU s", "GB read", "GB written", "reads", "writes", "USD")
WIDTHS = (10, 14, 12, 11, 11, 12, 12, 13)


def price_lines(account: Account, prices: Prices) -> Iterator[str]:
    """Yield the lines of two tables, one for the footage and one per 1,000 hours of it, and what they rest on."""
    hours = account.footage.hours
    yield f"cost of {hours:.2f} hours ({account.footage.files} files), {account.basis}:"
    yield from _table(account.stages, prices)
    yield f"the same per {PER_HOURS:,} hours of this footage:"
    factor = PER_HOURS / hours
    yield from _table({name: work.times(factor) for name, work in account.stages.items()}, prices)
    yield from _notes(account, prices)


def usd_of(work: Work, prices: Prices) -> float:
    """Return the price of work, without its storage."""
    gpus = sum(seconds * prices.gpu_hour_of(name) for name, seconds in work.gpu_s.items()) / 3600
    return (
        work.cpu_s / 3600 * prices.usd_per_cpu_core_hour / prices.cpu_busy
        + gpus
        + work.paid_read / 1e9 * prices.usd_per_gb_read
        + work.paid_sent / 1e9 * prices.usd_per_gb_sent
        + work.reads / 1000 * prices.usd_per_1000_reads
        + work.writes / 1000 * prices.usd_per_1000_writes
        + _usd_of_tokens(work, prices)
    )


def _usd_of_tokens(work: Work, prices: Prices) -> float:
    """Return the price of chat models: by the file's rates, else by the recipe's."""
    rates = prices.usd_per_million_input_tokens, prices.usd_per_million_output_tokens
    if rates == (None, None):
        return work.usd
    return (work.tokens_in * (rates[0] or 0) + work.tokens_out * (rates[1] or 0)) / 1e6


def _table(stages: Mapping[str, Work], prices: Prices) -> Iterator[str]:
    total = sum(stages.values(), Work())
    stored_usd = total.bytes_written / 1e9 * prices.usd_per_gb_month * prices.months
    yield _row(HEADS)
    for name, work in stages.items():
        yield _row(_cells(name, work, usd_of(work, prices)))
    if stored_usd:
        yield _row(("stored", *[""] * (len(HEADS) - 2), f"{stored_usd:,.2f}"))
    yield _row(_cells("total", total, usd_of(total, prices) + stored_usd))


def _cells(name: str, work: Work, usd: float) -> Sequence[str]:
    counts = (f"{work.reads:,.0f}", f"{work.writes:,.0f}")
    gigabytes = (f"{work.bytes_read / 1e9:,.3f}", f"{work.bytes_written / 1e9:,.3f}")
    return (name, f"{work.cpu_s:,.1f}", f"{sum(work.gpu_s.values()):,.1f}", *gigabytes, *counts, f"{usd:,.2f}")


def _row(cells: Iterable[str]) -> str:
    first, *others = zip(cells, WIDTHS, strict=True)
    return ("  " + f"{first[0]:{first[1]}}" + "".join(f"{text:>{width}}" for text, width in others)).rstrip()


def _notes(account: Account, prices: Prices) -> Iterator[str]:
    """Yield what is assumed, and what is not counted."""
    total = sum(account.stages.values(), Work())
    if total.gpu_s:
        stated = ", ".join(f"{name} {prices.gpu_s_per_clip[name]:g} s per clip" for name in total.gpu_s)
        yield f"  GPU seconds as the prices state them, not measured: {stated}"
    if account.unstated:
        yield f"  GPU seconds not counted, as gpu_s_per_clip does not state them: {', '.join(account.unstated)}"
    if account.unknown:
        yield f"  CPU seconds not counted, as no run has measured them: {', '.join(account.unknown)}"
    if total.tokens_in or total.tokens_out:
        tokens = f"{short(total.tokens_in)} tokens in, {short(total.tokens_out)} out"
        yield f"  chat models: {tokens}, {_usd_of_tokens(total, prices):,.2f} USD of it"
    if total.bytes_written and prices.usd_per_gb_month:
        gigabytes = total.bytes_written / 1e9
        yield f"  stored: {gigabytes:,.3f} GB written are kept for {prices.months:g} months"
    yield (
        f"  a core that is paid for works {prices.cpu_busy:.0%} of the time (cpu_busy); files on a disk cost no"
        " requests and no transfer; the driver, idle GPUs and tries that failed are not counted"
    )
