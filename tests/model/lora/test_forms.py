"""LoRA files of others: written, read back by another table of names, and added to their layers by their own rule."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from reelwright.model.config import DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError
from reelwright.model.lora.adapters import add_lora, lora_parameters
from reelwright.model.lora.files import load_lora, lora_state, parse_lora, published_tensors, read_lora
from reelwright.model.lora.forms import FORMS, to_form
from reelwright.model.lora.layer_weights import LayerWeights
from reelwright.model.weights.converted import converted
from reelwright.model.weights.names import COMFYUI, FASTVIDEO, names_there
from reelwright.model.weights.their_names import place_of
from reelwright.model.weights.weight_files import save_tensors
from tests.model.weights import peer

TINY = DiTConfig(hidden_size=48, depth=2, num_heads=4, caption_channels=24, adaln_tembed_dim=16)
EVERYWHERE = ("*.attn.*", "*.cross_attn.*", "*.ffn.*", "*.adaLN_modulation.1", "final_layer.*")


def network() -> DiT:
    torch.manual_seed(0)
    model = DiT(TINY)
    for p in model.parameters():
        p.data = torch.randn_like(p) * 0.2
    return model


def adapted(alpha: float = 2, rank: int = 4) -> DiT:
    model = network()
    add_lora(model, LoRAConfig(rank=rank, alpha=alpha, targets=EVERYWHERE))
    torch.manual_seed(1)
    for p in lora_parameters(model):
        p.data = torch.randn_like(p) * 0.2
    return model


def layers_of(model: DiT) -> dict[str, LayerWeights]:
    return parse_lora(lora_state(model), "here")


def written(model: DiT, form: str, folder):
    tensors, header = to_form(layers_of(model), FORMS[form])
    save_tensors(tensors, folder / "lora.safetensors", header)
    return folder / "lora.safetensors"


def inputs():
    random = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, 2, 4, 6, generator=random)
    return x, torch.tensor([300.0]), torch.randn(1, 5, 24, generator=random)


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_a_lora_of_every_form_gives_the_same_outputs_bit_for_bit(form, tmp_path):
    model, again = adapted(), network()
    load_lora(again, written(model, form, tmp_path))
    x, t, text = inputs()
    assert torch.equal(again(x, t, text), model(x, t, text))
    assert not torch.equal(network()(x, t, text), model(x, t, text))


def test_published_keys_come_back_as_they_were(tmp_path):
    state = lora_state(adapted())
    again = published_tensors(parse_lora(state, "here"))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[k], v) for k, v in state.items())


@torch.no_grad()
@pytest.mark.parametrize(("form", "names"), [("fastvideo", FASTVIDEO), ("comfyui", COMFYUI)])
def test_others_that_add_it_to_separate_projections_get_the_same_outputs(form, names, tmp_path):
    """As ComfyUI and FastVideo do: W + alpha / rows of the first matrix · second @ first, by the file's own keys."""
    model, kind = adapted(), FORMS[form]
    file = load_file(written(model, form, tmp_path))
    there = dict(converted(network().state_dict().items(), names))
    downs = [key for key in file if key.endswith(kind.down)]
    assert 3 * len(downs) == len(file)
    for key in downs:
        bare = key.removesuffix(kind.down)
        scale = float(file[bare + kind.alpha]) / file[key].shape[0]
        there[f"{bare.removeprefix(kind.prefix)}.weight"] += scale * file[bare + kind.up] @ file[key]
    x, t, text = inputs()
    fastvideo = {_fastvideo(name): tensor for name, tensor in there.items()}
    torch.testing.assert_close(
        peer.forward(fastvideo, x, t, text, TINY.num_heads), model(x, t, text), rtol=2e-5, atol=2e-5
    )


def _fastvideo(name: str) -> str:
    """A tensor's name in FastVideo's layout, for the peer, which knows no other."""
    layer, _, kind = name.rpartition(".")
    place = place_of(layer)
    return f"{names_there(place.layer, FASTVIDEO)[place.part]}.{kind}"


@torch.no_grad()
def test_peft_adds_the_file_for_diffusers_without_an_alpha(tmp_path):
    """Readers of `lora_A` and `lora_B` alone: W + B @ A. The header says alpha = rank for each layer, as PEFT asks."""
    model, plain = adapted(), network()
    path = written(model, "diffusers", tmp_path)
    file, state = load_file(path), plain.state_dict()
    from safetensors import safe_open

    with safe_open(str(path), "pt") as opened:
        said = json.loads(opened.metadata()["lora_adapter_metadata"])
    for key in [k for k in file if k.endswith(".lora_A.weight")]:
        layer = key.removeprefix("transformer.").removesuffix(".lora_A.weight")
        low, high = file[key], file[key.replace("lora_A", "lora_B")]
        state[f"{layer}.weight"] += high @ low
        rank = said["transformer.rank_pattern"].get(f"^{layer}", said["transformer.r"])
        assert (
            rank == low.shape[0] == said["transformer.alpha_pattern"].get(f"^{layer}", said["transformer.lora_alpha"])
        )
    x, t, text = inputs()
    torch.testing.assert_close(plain(x, t, text), model(x, t, text), rtol=2e-5, atol=2e-5)


@given(
    rank=st.integers(1, 5), alpha=st.floats(0.1, 40), form=st.sampled_from(sorted(FORMS)), ups=st.sampled_from([1, 3])
)
@settings(deadline=None, max_examples=40)
def test_a_layer_keeps_its_update_whatever_its_rank_and_alpha(rank, alpha, form, ups):
    random = torch.Generator().manual_seed(rank)
    weights = LayerWeights(
        torch.randn(ups * rank, 6, generator=random),
        [torch.randn(12 // ups, rank, generator=random) for _ in range(ups)],
        torch.tensor(alpha / rank),
    )
    from reelwright.model.lora.read_forms import parse_forms

    layer = "blocks.3.attn.qkv"
    again = parse_forms(*to_form({layer: weights}, FORMS[form]), "here")[layer]
    # The forms scale in another order, so that elements which cancel differ by an ulp of what they are the sum of.
    whole = update(weights)
    torch.testing.assert_close(update(again), whole, rtol=1e-5, atol=1e-6 * float(whole.abs().max()))


def update(weights: LayerWeights) -> torch.Tensor:
    lows = weights.down.chunk(len(weights.ups))
    return torch.cat([up @ low for up, low in zip(weights.ups, lows, strict=True)]) * weights.scale


def test_both_tables_of_names_mean_the_same_layers():
    layers = {name.rpartition(".")[0] for name in DiT(TINY).state_dict()}
    for names in (FASTVIDEO, COMFYUI):
        for layer in layers:
            there = names_there(layer, names)
            found = [place_of(name) for name in there]
            assert [(p.layer, p.part, p.of) for p in found] == [(layer, i, len(there)) for i in range(len(there))]
            assert place_of("lora_unet_" + there[0].replace(".", "_")) == found[0]
    assert all(place_of(f"transformer.{layer}").layer == layer for layer in layers)


def test_q_and_v_alone_of_other_ranks_are_put_together(tmp_path):
    """A trainer that adapts q and v, with ranks and alphas of their own."""
    torch.manual_seed(0)
    q, v = (torch.randn(2, 48), torch.randn(48, 2)), (torch.randn(3, 48), torch.randn(48, 3))
    at = "diffusion_model.blocks.1.self_attn"
    tensors = {f"{at}.q.lora_A.weight": q[0], f"{at}.q.lora_B.weight": q[1], f"{at}.q.alpha": torch.tensor(1.0)}
    tensors |= {f"{at}.v.lora_A.weight": v[0], f"{at}.v.lora_B.weight": v[1]}
    save_file(tensors, tmp_path / "x.safetensors")
    found = read_lora(tmp_path / "x.safetensors")["blocks.1.attn.qkv"]
    expected = torch.cat((0.5 * q[1] @ q[0], torch.zeros(48, 48), v[1] @ v[0]))
    torch.testing.assert_close(update(found), expected)
    assert load_lora(network(), tmp_path / "x.safetensors") == ["blocks.1.attn.qkv"]


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"blocks.0.attn.qkv.weight": (4, 4)}, "none is a LoRA's"),
        ({"transformer.blocks.0.attn1.to_q.lora_A.weight": (2, 48),
          "transformer.blocks.0.attn1.to_q.lora_B.weight": (48, 2)}, "1 of 1 layers are not named as any layout"),
        ({"transformer.blocks.0.attn.proj.lora_A.weight": (2, 48)}, "is not whole; it has only low"),
        ({"transformer.blocks.0.attn.proj.lora_A.weight": (2, 48),
          "transformer.blocks.0.attn.proj.lora_B.weight": (48, 3)}, "ranks do not agree"),
        ({"transformer.blocks.0.attn.proj.lora_A.weight": (2, 40),
          "transformer.blocks.0.attn.proj.lora_B.weight": (48, 2)}, "40 -> 48; the model has 48 -> 48"),
        ({"diffusion_model.blocks.0.self_attn.o.lora_down.weight": (2, 48),
          "diffusion_model.blocks.0.self_attn.o.lora_up.weight": (48, 2),
          "diffusion_model.blocks.0.self_attn.o.diff_b": (48,)}, "self_attn.o.diff_b"),
        ({"transformer.blocks.0.attn.proj.lora_A.weight": (2, 48),
          "transformer.blocks.0.attn.proj.lora_B.weight": (48, 2),
          "diffusion_model.blocks.0.self_attn.o.lora_down.weight": (2, 48),
          "diffusion_model.blocks.0.self_attn.o.lora_up.weight": (48, 2)}, "is there twice"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_one_sentence(tensors, sentence, tmp_path):
    save_file({name: torch.ones(shape) for name, shape in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=sentence):
        load_lora(network(), tmp_path / "x.safetensors")
