"""The worker of `reel precompute`: a process that holds the VAE or the text encoder; it writes, the driver commits."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reelwright.curation.media.errors import MediaError
from reelwright.curation.results import Failed
from reelwright.curation.store import Store
from reelwright.model.errors import ModelError
from reelwright.training.data.loader import STAGE
from reelwright.training.data.mix_rows import media_in_turn
from reelwright.training.data.sandbox_decoder import SandboxDecoder
from reelwright.training.data.windows import Window
from reelwright.training.recipe import TrainRecipe

if TYPE_CHECKING:
    from reelwright.training.data.encode import Decoded
    from reelwright.training.data.pairs import PairMaker

DECODED_AHEAD = 2
"""Clips that are decoded before the network is ready for them: half a GB each at 720p and 189 frames."""


@dataclass(frozen=True)
class Encoded:
    """Rows that one call wrote, which nobody sees until `fragments` is committed.

    Args:
        fragments: For `Store.commit_encoded`.
        rows: Number of them.
        num_bytes: Their payload.
        failures: Clip id or caption -> why it has no row.
    """

    fragments: str
    rows: int
    num_bytes: int
    failures: Mapping[str, Failed]


class Encoder:
    """A Ray actor. One network is in memory at a time: captions come first."""

    def __init__(self, recipe: dict[str, Any], store_uri: str, media_versions: Sequence[int], device: str) -> None:
        self.recipe, self.store = TrainRecipe.model_validate(recipe), Store(store_uri)
        self.media_versions, self.device = media_versions, device
        self.decode = SandboxDecoder(self.recipe.data.fps, self.recipe.data.rates)
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="reel-decode")
        self._codec: Any = None
        self._text: Any = None
        self._pairs: PairMaker | None = None

    def check(self) -> str:
        """Return why this node cannot encode, or ""."""
        from reelwright.training.data.encode import fingerprints_of

        try:
            fingerprints_of(self.recipe)
        except ModelError as error:
            return f"on a node of the cluster: {error}"
        return ""

    def encode_captions(self, captions: Sequence[str]) -> Encoded:
        """Encode captions into rows of `texts`."""
        from reelwright.model.text import load_text_encoder
        from reelwright.training.data.encode import fingerprints_of, text_rows

        if self._text is None:
            self._codec, self._text = None, load_text_encoder(self.recipe.text, device=self.device)
        dtype = self.recipe.data.store_dtype
        rows = text_rows(captions, self._text, dtype=dtype, fingerprint=fingerprints_of(self.recipe).texts)
        return self._write("texts", rows, "states", {})

    def encode_clips(self, window: Window, clip_ids: Sequence[str]) -> Encoded:
        """Encode one window of clips into rows of `latents`; a clip that is of no use fails alone."""
        from reelwright.model.codec import load_codec
        from reelwright.training.data.encode import encoded_row, fingerprints_of

        if self._codec is None:
            self._text = None
            self._pairs = self._pair_maker()
            self._codec = load_codec(self.recipe.codec, device=self.device)
        dtype, prints = self.recipe.data.store_dtype, fingerprints_of(self.recipe)
        rows: list[dict[str, Any]] = []
        failures: dict[str, Failed] = {}
        for clip_id, decoding in self._ahead(window, clip_ids):
            try:
                row = encoded_row(
                    clip_id,
                    window,
                    decoding.result(),
                    self._codec,
                    dtype=dtype,
                    fingerprint=prints.latents,
                    pairs=self._pairs,
                )
            except MediaError as error:  # it does not decode, or its first stage does not go through a video codec
                failures[clip_id] = Failed(STAGE, f"{window.key}: {error}", error.detail)
                continue
            rows.append(row)
        return self._write("latents", rows, "latents", failures)

    def _pair_maker(self) -> "PairMaker | None":
        """Make the maker of pairs, with the base model where the recipe sends the first stage through it."""
        from reelwright.training.data.pairs import pair_maker

        pair = self.recipe.data.pair
        if pair is None or pair.base is None:
            return pair_maker(self.recipe)
        from reelwright.training.base_trip import load_denoiser

        return pair_maker(self.recipe, load_denoiser(self.recipe, pair.base, device=self.device))

    def _ahead(self, window: Window, clip_ids: Sequence[str]) -> Iterator[tuple[str, "Future[Decoded]"]]:
        """Yield clips that a thread reads and decodes while those before are encoded."""
        waiting: deque[tuple[str, Future[Decoded]]] = deque()
        for clip_id, mp4 in media_in_turn(self.store, clip_ids, self.media_versions):
            if len(waiting) > DECODED_AHEAD:
                yield waiting.popleft()
            decoding = self._decoding.submit(self.decode, mp4, window.bucket, float(window.place))
            waiting.append((clip_id, decoding))
        while waiting:
            yield waiting.popleft()

    def _write(self, table: str, rows: list[dict[str, Any]], payload: str, failures: dict[str, Failed]) -> Encoded:
        size = sum(len(row[payload]) for row in rows)
        fragments = self.store.write_encoded(table, rows)
        return Encoded(fragments, len(rows), size, failures)
