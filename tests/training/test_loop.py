"""The loop on made-up clips: it learns, resumes to the bit, skips bad steps, and stops when told to."""

import os
import signal
from pathlib import Path

import pytest
import torch

from reelwright.model.dit import DiT
from reelwright.model.lora.adapters import add_lora
from reelwright.training import stopping
from reelwright.training.checkpoints import Checkpoints, read_metadata, read_tensors
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.logs import read_log
from reelwright.training.loop import _line, micro_batches
from tests.training.made_up import MadeUp, recipe_of, run

LOSS = ("loss", "grad_norm", "lr")


def losses(folder) -> list[tuple]:
    return [tuple(row[k] for k in LOSS) for row in read_log(folder) if "loss" in row]


def weights(folder) -> dict[str, torch.Tensor]:
    return read_tensors(Checkpoints(folder / "checkpoints", 1).latest())


class Interrupted(MadeUp):
    """In step `stop` (from 1) a signal comes, in its micro-batch `micro` of two."""

    stop, micro, number = 3, 1, signal.SIGTERM

    def batches(self, start_step):
        for batch in super().batches(start_step):
            if (batch.step, batch.micro) == (self.stop - 1, self.micro):
                os.kill(os.getpid(), self.number)
            yield batch


def test_six_steps_are_three_and_three_to_the_bit(tmp_path):
    recipe = recipe_of()
    whole = run(recipe, tmp_path / "whole")
    first = run(recipe, tmp_path / "parts", data=Interrupted(recipe, World.alone("cpu")))
    assert (first.step, first.finished, first.signal) == (3, False, signal.SIGTERM)
    second = run(recipe, tmp_path / "parts")
    assert (second.step, second.finished) == (6, True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert second.metrics == whole.metrics
    there, expect = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert there.keys() == expect.keys()
    assert {name.split(".")[0] for name in there} == {"model", "ema", "optim"}
    assert all(torch.equal(there[name], expect[name]) for name in expect)


def test_a_step_is_given_up_between_micro_batches_and_done_again(tmp_path):
    recipe = recipe_of()
    data = Interrupted(recipe, World.alone("cpu"))
    data.micro = 0
    first = run(recipe, tmp_path / "parts", data=data)
    assert (first.step, first.signal) == (2, signal.SIGTERM)
    run(recipe, tmp_path / "parts")
    run(recipe, tmp_path / "whole")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    expect = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, expect[name]) for name, tensor in weights(tmp_path / "parts").items())


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
    class Power(Exception):
        pass

    class Killed(MadeUp):
        def batches(self, start_step):
            for batch in super().batches(start_step):
                if batch.step == 5:
                    raise Power
                yield batch

    recipe = recipe_of()
    run(recipe, tmp_path / "whole")
    with pytest.raises(Power):
        run(recipe, tmp_path / "parts", data=Killed(recipe, World.alone("cpu")))
    said: list[str] = []
    run(recipe, tmp_path / "parts", say=said.append)
    assert said[0].startswith("resuming from step 4 of 6")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")  # step 5's first line is not there twice
    expect = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, expect[name]) for name, tensor in weights(tmp_path / "parts").items())


class Asked(Interrupted):
    """A file is put into the folder instead."""

    said, folder = b"", Path()

    def batches(self, start_step):
        for batch in MadeUp.batches(self, start_step):
            if (batch.step, batch.micro) == (self.stop - 1, self.micro):
                (self.folder / stopping.REQUEST).write_bytes(self.said)
            yield batch


@pytest.mark.parametrize(("said", "number"), [(b"", signal.SIGTERM), (b"2", signal.SIGINT), (b"\xff!", signal.SIGTERM)])
def test_a_file_in_the_run_s_folder_stops_it_too(tmp_path, said, number):
    data = Asked(recipe_of(), World.alone("cpu"))
    data.said, data.folder = said, tmp_path
    outcome = run(recipe_of(), tmp_path, data=data)
    assert (outcome.step, outcome.signal) == (3, number)
    assert read_metadata(outcome.checkpoint)["step"] == 3
    assert run(recipe_of(), tmp_path).finished  # it was asked once


def test_a_signal_is_heeded_once_and_the_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    data = Interrupted(recipe_of(), World.alone("cpu"))
    data.number = signal.SIGINT
    outcome = run(recipe_of(), tmp_path, data=data)
    assert (outcome.step, outcome.signal) == (3, signal.SIGINT)
    assert read_metadata(outcome.checkpoint)["step"] == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_longer_recipe_goes_on(tmp_path):
    assert run(recipe_of(steps=3), tmp_path / "parts").finished
    assert run(recipe_of(), tmp_path / "parts").step == 6
    run(recipe_of(), tmp_path / "whole")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_another_run_s_state_is_resumed_under_a_changed_recipe(tmp_path):
    first = run(recipe_of(steps=4), tmp_path / "first").checkpoint
    run(recipe_of(), tmp_path / "whole")
    run(recipe_of(), tmp_path / "same", resume_from=first)
    there, expect = weights(tmp_path / "same"), weights(tmp_path / "whole")
    assert all(torch.equal(there[name], expect[name]) for name in expect)
    outcome = run(recipe_of(optim={"lr": 1e-3}), tmp_path / "slower", resume_from=first)
    assert outcome.step == 6
    slower, whole = losses(tmp_path / "slower"), losses(tmp_path / "whole")[4:]
    assert [row[2] for row in slower] == [1e-3, 1e-3]
    assert slower[0][0] == whole[0][0]
    assert slower[1][0] != whole[1][0]
    with pytest.raises(TrainError, match="is at step 4, but the recipe ends at 3; raise steps"):
        run(recipe_of(steps=3), tmp_path / "short", resume_from=first)


def test_averages_begin_where_the_run_that_is_gone_on_from_had_none(tmp_path):
    plain = run(recipe_of(steps=1, optim={"ema": 0.0}), tmp_path / "plain").checkpoint
    run(recipe_of(steps=2), tmp_path / "averaged", resume_from=plain)
    before, after = read_tensors(plain, "model."), weights(tmp_path / "averaged")
    name, decay = "final_layer.linear.weight", 3 / 12
    expect = decay * before[name] + (1 - decay) * after[f"model.{name}"]
    torch.testing.assert_close(after[f"ema.{name}"], expect)


def test_the_loss_falls(tmp_path):
    recipe = recipe_of(steps=20, optim={"ema": 0.0}, validation={"every": 0}, checkpoints={"every": 99})
    outcome = run(recipe, tmp_path)
    first = next(row for row in read_log(tmp_path) if "val/loss" in row)
    assert first["step"] == 0
    assert outcome.metrics["val/loss"] < 0.6 * first["val/loss"]


def test_a_step_that_is_not_finite_changes_no_weight(tmp_path):
    recipe = recipe_of(steps=3, checkpoints={"every": 1, "keep": 9}, optim={"ema": 0.0})
    world = World.alone("cpu")
    run(recipe, tmp_path / "bad", data=MadeUp(recipe, world, spoil=2))
    steps = Checkpoints(tmp_path / "bad" / "checkpoints", 9).all()
    before, after = read_tensors(steps[1], "model."), read_tensors(steps[2], "model.")
    assert all(torch.equal(before[name], after[name]) for name in before)
    guard = read_metadata(steps[2])["guard"]
    assert len(guard.pop("norms")) == 2  # of the steps before; the bad one has none
    assert guard == {"skipped": 1, "skipped_in_a_row": 1}
    assert [row["skipped"] for row in read_log(tmp_path / "bad") if "loss" in row] == [0, 0, 1]


def test_too_many_bad_steps_end_the_run(tmp_path):
    recipe = recipe_of(guard={"max_norm": 1e-9, "max_skipped": 2})
    with pytest.raises(TrainError, match="step 3: the gradient's norm"):
        run(recipe, tmp_path)


def test_adapters_train_and_the_base_does_not(tmp_path):
    recipe = recipe_of(lora={"rank": 2, "alpha": 2}, steps=2)
    model = DiT(recipe.model).init_weights(0)
    torch.nn.init.normal_(model.final_layer.linear.weight, std=0.1)
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    add_lora(model, recipe.lora)
    run(recipe, tmp_path, model=model)
    state = model.state_dict()
    changed = {n for n in base if not torch.equal(state[n], base[n])}
    assert not changed
    assert any(t.any() for n, t in state.items() if ".lora." in n and ".up." in n)
    assert all(".lora." in n for n in weights(tmp_path) if not n.startswith("model."))


def test_another_recipe_s_checkpoint_is_refused(tmp_path):
    run(recipe_of(steps=2), tmp_path)
    recipe = recipe_of(steps=4)
    other = {"recipe_fingerprint": "other", "snapshot": {"content_hash": "s"}}
    with pytest.raises(TrainError, match="another recipe or snapshot"):
        run(recipe, tmp_path, metadata=other)


def test_batches_that_ranks_cannot_share_evenly_are_refused(tmp_path):
    with pytest.raises(TrainError, match="make it a multiple of 3"):
        micro_batches(recipe_of(), World(size=3, data_size=3))
    with pytest.raises(TrainError, match="make it a multiple of 4"):
        micro_batches(recipe_of(), World(size=4, data_size=4))  # of 2 there is none for each
    assert micro_batches(recipe_of(), World(size=4, data_size=2, context_size=2)) == 1


def test_the_line_of_a_step_says_what_was_counted():
    values = {"loss": 0.5, "grad_norm": 1.2345, "lr": 1e-4, "skipped": 0.0, "clips_per_s": 2.0, "tokens_per_s": 12345.0,
              "data_wait_share": 0.125}  # fmt: skip
    speeds = "2.00 clips/s  12,345 tokens/s  data 12.5%"
    assert _line(3, 6, values, {}) == f"step 3/6  loss 0.5000  norm 1.23  lr 0.0001  {speeds}"
    more = values | {"mfu": 0.4, "skipped": 2.0, "loss": -1e-3}
    shown = {"kl": 0.25}
    assert (
        _line(3, 6, more, shown)
        == f"step 3/6  loss -0.0010  kl 0.25  norm 1.23  lr 0.0001  {speeds}  MFU 40.0%  2 skipped"
    )
    assert "loss -9.90e-04 " in _line(3, 6, values | {"loss": -9.9e-4}, {})  # a policy's, near 0


def test_bf16_autocast_and_tensorboard(tmp_path):
    recipe = recipe_of(steps=2, compute={"precision": "bf16"}, log={"tensorboard": True})
    assert run(recipe, tmp_path).finished
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_samples_are_made_by_the_averages(tmp_path):
    seen = {}

    def sample(model, step):
        seen[step] = model.final_layer.linear.weight.clone()

    run(recipe_of(samples={"every": 6, "prompts": ["x"]}), tmp_path, sample=sample)
    latest = weights(tmp_path)
    assert list(seen) == [6]
    assert torch.equal(seen[6], latest["ema.final_layer.linear.weight"])
    assert not torch.equal(seen[6], latest["model.final_layer.linear.weight"])


def test_sparse_attention_learns_as_dense_does_at_sparsity_0(tmp_path):
    run(recipe_of(), tmp_path / "dense")
    run(recipe_of(attention={"form": "sparse", "block": (2, 2, 2), "keep": 1.0}), tmp_path / "sparse")
    for ours, dense in zip(losses(tmp_path / "sparse"), losses(tmp_path / "dense"), strict=True):
        assert ours == pytest.approx(dense, rel=1e-4)


def test_it_is_dense_for_its_first_steps_then_leaves_blocks_out(tmp_path):
    """As refinement trains: dense, then 93.75 %; it goes on from a checkpoint as if it had not stopped."""
    recipe = recipe_of(attention={"form": "sparse", "block": (1, 2, 2), "keep": 1 / 16, "dense_steps": 4})
    run(recipe_of(), tmp_path / "dense")
    run(recipe, tmp_path / "sparse")
    ours, dense = losses(tmp_path / "sparse"), losses(tmp_path / "dense")
    assert ours[:4] == dense[:4]
    assert ours[4:] != dense[4:]
    run(recipe, tmp_path / "parts", data=Interrupted(recipe, World.alone("cpu")))
    run(recipe, tmp_path / "parts")
    assert losses(tmp_path / "parts") == ours


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_sparse_attention_under_checkpointing_changes_nothing(tmp_path, checkpointing):
    sparse = {"form": "sparse", "block": (1, 2, 2), "keep": 0.3}
    run(recipe_of(attention=sparse, steps=2), tmp_path / "plain")
    run(recipe_of(attention=sparse, steps=2, compute={"checkpointing": checkpointing}), tmp_path / "saved")
    assert losses(tmp_path / "saved") == losses(tmp_path / "plain")


def test_whoever_asks_sees_the_weights_whenever_they_change(tmp_path):
    seen = {}

    def on_weights(model, step):
        seen[step] = model.final_layer.linear.weight.detach().clone()

    recipe = recipe_of(steps=4, optim={"ema": 0.0}, checkpoints={"every": 1, "keep": 9})
    world = World.alone("cpu")
    run(recipe, tmp_path, data=MadeUp(recipe, world, spoil=2), on_weights=on_weights)
    assert list(seen) == [0, 1, 2, 4]  # step 3 was skipped
    for folder in Checkpoints(tmp_path / "checkpoints", 9).all():
        step = read_metadata(folder)["step"]
        expect = read_tensors(folder, "model.")["final_layer.linear.weight"]
        assert torch.equal(seen[step if step in seen else step - 1], expect)
