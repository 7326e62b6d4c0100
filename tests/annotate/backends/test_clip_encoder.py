import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from reelwright.annotate.backends.clip_encoder import ClipEncoder, ClipModel
from reelwright.annotate.errors import AnnotatorError
from tests.annotate.checkpoints_clip import DIM, clip_folder  # noqa: F401
from tests.annotate.synth import texture


@pytest.fixture(scope="module")
def encoder(clip_folder):  # noqa: F811
    return ClipEncoder(ClipModel(str(clip_folder), batch=2))


@pytest.fixture(scope="module")
def whole(clip_folder):  # noqa: F811
    """transformers' own model of both halves, its processors, and nothing of ours."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    kinds = (CLIPModel, CLIPImageProcessorPil, CLIPTokenizer)
    return tuple(kind.from_pretrained(clip_folder) for kind in kinds)


def unit(tensor):
    return torch.nn.functional.normalize(tensor, dim=-1).detach().numpy()


@pytest.mark.parametrize("size", [(112, 200), (200, 112), (31, 40), (56, 56)])
def test_image_embeddings_are_those_of_transformers_own_model_and_processor(encoder, whole, size):
    model, processor, _ = whole
    frames = np.stack([texture(*size, seed=k) for k in range(5)])
    pixels = processor(images=[Image.fromarray(f) for f in frames], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expect = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    found = encoder.embed_images(frames)  # in batches of two
    np.testing.assert_allclose(found, unit(expect), atol=1e-5)
    assert found.dtype == np.float32
    assert found.shape == (5, DIM)


def test_frames_of_different_sizes_go_together(encoder):
    frames = [texture(60, 100), texture(100, 60, seed=1), texture(80, 80, seed=2)]
    together = encoder.embed_images(frames)
    np.testing.assert_allclose(together, np.concatenate([encoder.embed_images([f]) for f in frames]), atol=1e-5)


def test_text_embeddings_are_those_of_transformers_own_model_whatever_stands_beside_them(encoder, whole):
    model, _, tokenizer = whole
    texts = ["a dog", "a much longer sentence on the beach", "", "x" * 500]
    for text, found in zip(texts, encoder.embed_text(texts), strict=True):
        tokens = tokenizer([text], truncation=True, max_length=77, return_tensors="pt")
        with torch.no_grad():
            expect = model.text_projection(model.text_model(**tokens).pooler_output)
        np.testing.assert_allclose(found, unit(expect)[0], atol=1e-5)


def test_nothing_gives_nothing(encoder):
    assert encoder.embed_images([]).shape == encoder.embed_text([]).shape == (0, DIM)


def test_the_published_model_is_known_without_asking_the_hub():
    assert ClipModel().dim == 768
    assert ClipModel().id == "openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41"
    assert ClipModel(revision="abc").id.endswith("@abc")


def test_its_name_follows_the_content_and_not_the_place(clip_folder, tmp_path):  # noqa: F811
    copy = shutil.copytree(clip_folder, tmp_path / clip_folder.name)
    assert ClipModel(str(copy)).id == ClipModel(str(clip_folder)).id
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert ClipModel(str(copy)).id != ClipModel(str(clip_folder)).id


def test_a_model_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AnnotatorError, match=r"holds no config\.json; set clip\.model"):
        ClipEncoder(ClipModel(str(tmp_path))).embed_images([texture(8, 8)])
    with pytest.raises(AnnotatorError, match=r"nobody/nothing.*set clip\.model"):
        ClipModel("nobody/nothing").dim
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(AnnotatorError, match="type 'bert', not a CLIP model"):
        ClipModel(str(tmp_path)).dim


def test_weights_that_are_missing_are_not_made_up(clip_folder, tmp_path):  # noqa: F811
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(clip_folder, tmp_path / "clip")
    weights = load_file(copy / "model.safetensors")
    save_file({k: v for k, v in weights.items() if k != "visual_projection.weight"}, copy / "model.safetensors")
    with pytest.raises(AnnotatorError, match=r"lacks 1 weights of its model, such as visual_projection\.weight"):
        ClipEncoder(ClipModel(str(copy))).embed_images([texture(8, 8)])


def test_a_pickle_beside_the_config_is_not_loaded(clip_folder, tmp_path):  # noqa: F811
    copy = shutil.copytree(clip_folder, tmp_path / "clip")
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(AnnotatorError, match="cannot be loaded"):
        ClipEncoder(ClipModel(str(copy))).embed_images([texture(8, 8)])


def test_the_length_of_its_vectors_comes_from_the_config(clip_folder):  # noqa: F811
    assert ClipModel(str(clip_folder)).dim == json.loads((clip_folder / "config.json").read_text())["projection_dim"]
