"""The bundled MiniLM, against sentence-transformers' own run of the same weights."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from reelwright.annotate.backends.sentences import SentenceModel

TEXTS = [
    "A red car drives along the coast at sunset. The camera pans left; birds fly, the sea is calm.",
    "x",
    "",
    "猫が走る",
    "Ärger mit Umlauten!! 123",
    " ".join(f"word{i} and more" for i in range(400)),  # longer than the model reads
    *(f"clip {i}: a man rides a bike, static camera" for i in range(70)),  # more than a batch
]


@pytest.mark.exhaustive
def test_vectors_are_those_of_sentence_transformers() -> None:
    model = SentenceModel()
    assert model._bundled is not None
    expected = model._loaded.encode_document(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(model._bundled.embed(TEXTS), expected, atol=2e-6)


def test_tokens_lie_where_its_own_tokenizer_finds_them() -> None:
    model = SentenceModel()
    assert model._bundled is not None
    own = model._loaded.tokenizer
    for text in TEXTS:
        spans = own(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        assert model._bundled.token_spans(text) == [tuple(span) for span in spans]
    assert model._bundled.num_special_tokens == own.num_special_tokens_to_add()
    assert model._bundled.max_seq_length == model._loaded.max_seq_length


def test_it_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from annotate.backends.sentences import SentenceModel; SentenceModel().embed(['a dog']); "
        "sys.exit(' '.join({'torch', 'transformers', 'sentence_transformers', 'sklearn'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
