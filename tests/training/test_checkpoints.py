"""Checkpoints are complete or absent, hold no pickle, and open on any number of ranks."""

import itertools
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor import Shard as Shard0
from torch.multiprocessing.spawn import ProcessExitedException

from reelwright.training import shards
from reelwright.training.checkpoints import (
    Checkpoints,
    find_checkpoint,
    load_tensors,
    read_metadata,
    read_tensors,
    tensor_names,
)
from reelwright.training.distributed.world import start
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ParallelConfig
from reelwright.training.shards import (
    INDEX,
    Piece,
    Shard,
    Staging,
    read_index,
    read_into,
    write_index,
    write_shards,
)
from tests.training.ranks import ranks
from tests.training.steps import alone, begin

TENSORS = {
    "model.a": torch.arange(15.0).view(5, 3),
    "model.b": torch.linspace(0, 1, 7, dtype=torch.bfloat16),
    "ema.a": torch.ones(5, 3, dtype=torch.float64),
    "optim.a.step": torch.tensor(3.0),
    "optim.a.count": torch.tensor([2**40]),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2)
    path = checkpoints.save(7, TENSORS, {"snapshot": {"name": "s"}})
    checkpoints.wait()
    return path


def test_what_is_saved_is_loaded(saved: Path) -> None:
    into = {name: torch.full_like(tensor, 9) for name, tensor in TENSORS.items()}
    load_tensors(saved, into)
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(into[name], tensor, rtol=0, atol=0)
    assert read_metadata(saved)["step"] == 7
    assert read_metadata(saved)["snapshot"] == {"name": "s"}
    model = read_tensors(saved, "model.")
    assert sorted(model) == ["a", "b"]
    assert torch.equal(model["b"], TENSORS["model.b"])
    assert tensor_names(saved) == {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}


def test_no_file_is_a_pickle(saved: Path) -> None:
    files = list(saved.iterdir())
    assert {file.suffix for file in files} == {".safetensors", ".json"}
    assert not any(file.read_bytes()[:2] in {b"PK", b"\x80\x02", b"\x80\x04"} for file in files)


def test_the_newest_are_kept_and_found(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2)
    for step in (10, 20, 30):
        checkpoints.save(step, TENSORS, {})
    checkpoints.wait()
    assert [path.name for path in checkpoints.all()] == ["step-00000020", "step-00000030"]
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step-00000020", "step-00000030"]
    newest = checkpoints.latest()
    assert newest is not None
    assert find_checkpoint(tmp_path) == find_checkpoint(tmp_path / "checkpoints") == find_checkpoint(newest) == newest
    with pytest.raises(TrainError, match="no checkpoint here"):
        find_checkpoint(tmp_path / "elsewhere")


def test_what_changes_after_save_is_not_saved(tmp_path: Path) -> None:
    checkpoints, weights = Checkpoints(tmp_path, 1), torch.zeros(1 << 20)
    path = checkpoints.save(1, {"model.w": weights}, {})
    weights.fill_(1)
    checkpoints.wait()
    assert not read_tensors(path)["model.w"].any()


def test_a_crash_while_saving_leaves_the_one_before(tmp_path: Path) -> None:
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        ranks(1, _die_while_saving, str(tmp_path))
    checkpoints = Checkpoints(tmp_path, 5)
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.name == "step-00000001"
    left = tmp_path / "step-00000002"
    left.mkdir(exist_ok=True)
    (left / "shard-00009-model-00001-of-00001.safetensors").write_bytes(b"half")
    checkpoints.save(2, {"model.w": torch.ones(3)}, {})
    checkpoints.wait()
    assert torch.equal(read_tensors(left)["model.w"], torch.ones(3))


def _die_while_saving(folder: str) -> None:
    checkpoints = Checkpoints(folder, 5)
    checkpoints.save(1, {"model.w": torch.ones(3)}, {})
    checkpoints.wait()
    checkpoints.save(2, {"model.w": torch.ones(1 << 24)}, {})
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_save_that_fails_is_told_at_the_next(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1)
    checkpoints.save(1, TENSORS, {})
    with pytest.raises(TrainError, match="not saved"):
        checkpoints.wait()
    checkpoints.wait()


def test_damage_is_a_sentence(saved: Path) -> None:
    shard = next(saved.glob("*.safetensors"))
    content = shard.read_bytes()
    for damage, says in ((content[:-1], "damaged, .* bytes where"), (b"\xff" * len(content), "header cannot be read")):
        shard.write_bytes(damage)
        with pytest.raises(TrainError, match=says):
            read_tensors(saved)
    (saved / INDEX).write_text("[")
    with pytest.raises(TrainError, match="index cannot be read"):
        tensor_names(saved)
    (saved / INDEX).unlink()
    with pytest.raises(TrainError, match="index cannot be read"):  # from the headers, which are damaged
        tensor_names(saved)
    shard.unlink()
    with pytest.raises(TrainError, match="missing; the checkpoint is incomplete"):
        load_tensors(saved, {"model.a": torch.zeros(5, 3)})
    (saved / "checkpoint.json").write_text("{")
    with pytest.raises(TrainError, match="not JSON"):
        read_metadata(saved)


def test_the_index_says_what_the_headers_say_and_torch_s_own_reader_opens_the_files(saved: Path) -> None:
    """A checkpoint of an earlier version has no index."""
    from torch.distributed import checkpoint as dcp

    with_index = read_index(saved)
    into = {name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()}
    dcp.load(into, storage_reader=dcp.HuggingFaceStorageReader(str(saved)), no_dist=True)
    for name, tensor in TENSORS.items():
        assert torch.equal(into[name], tensor)
    (saved / INDEX).unlink()
    assert read_index(saved) == with_index
    assert read_tensors(saved, "ema.")["a"].dtype == torch.float64


def test_a_rank_opens_only_files_that_hold_its_part(saved: Path) -> None:
    """What one rank wrote is not read by another, however many there are."""
    index = read_index(saved)
    far = Shard(torch.zeros(2, 3), (3, 0))
    other = Piece("of-another-rank.safetensors", (0, 0), (3, 3))
    whole = {"model.a": replace(index["model.a"], pieces=(*index["model.a"].pieces, other))}
    read_into(saved, whole, {"model.a": far})  # the other file does not exist
    assert torch.equal(far.local, TENSORS["model.a"][3:])


def test_any_part_is_put_together_from_the_parts_that_ranks_wrote(tmp_path: Path) -> None:
    """Four ranks' quarters of a table, of other sizes each, and every rectangle of it."""
    whole = torch.arange(35.0).view(5, 7)
    for rank, (rows, columns) in enumerate(itertools.product((slice(0, 3), slice(3, 5)), (slice(0, 2), slice(2, 7)))):
        write_shards(tmp_path, {"w": Shard(whole[rows, columns].contiguous(), (rows.start, columns.start))}, rank)
    write_index(tmp_path)
    index = read_index(tmp_path)
    assert index["w"].shape == (5, 7)
    assert index["w"].is_complete
    assert not replace(index["w"], pieces=index["w"].pieces[1:]).is_complete
    for top, left, low, right in itertools.product((0, 2, 3), (0, 1, 2), (3, 4, 5), (3, 7)):
        if top < low:
            part = Shard(torch.full((low - top, right - left), -1.0), (top, left))
            read_into(tmp_path, index, {"w": part})
            assert torch.equal(part.local, whole[top:low, left:right])


def test_copies_are_kept_from_save_to_save_while_type_and_shape_stay() -> None:
    """Pinning memory takes longer than copying."""
    staging, places = Staging(), []
    for tensor in (torch.ones(3), torch.full((3,), 2.0), torch.ones(3, dtype=torch.int32), torch.ones(4).int()):
        copied = staging.copy({"w": tensor})["w"].local
        assert torch.equal(copied, tensor)
        assert copied.dtype == tensor.dtype
        places.append(copied)  # kept, so that no other copy gets its memory
    first, second, *others = (copied.data_ptr() for copied in places)
    assert first == second
    assert len({first, *others}) == 3


def test_a_file_holds_no_more_than_it_may_or_one_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shards.FILE_BYTES == 2 * 1024**3
    monkeypatch.setattr(shards, "FILE_BYTES", 100)
    sizes = {"a": 60, "b": 40, "c": 120, "d": 4, "e": 96, "f": 1}
    parts = {name: torch.full((size,), i, dtype=torch.uint8) for i, (name, size) in enumerate(sizes.items())}
    write_shards(tmp_path, {name: Shard.of(part) for name, part in parts.items()}, 2)
    held: dict[str, list[str]] = {}
    for name, entry in read_index(tmp_path).items():
        held.setdefault(entry.pieces[0].file, []).append(name)
    assert held == {f"shard-00003-model-{i:05d}-of-00004.safetensors": list(names) for i, names in
                    enumerate(("ab", "c", "de", "f"), start=1)}  # fmt: skip


def test_a_header_beyond_safetensors_own_limit_is_not_read(tmp_path: Path) -> None:
    most = 100 * 1024**2
    for length, says in ((most + 1, f"a header of {most + 1} bytes"), (most, "Expecting value")):
        (tmp_path / "shard.safetensors").write_bytes(length.to_bytes(8, "little"))
        with pytest.raises(ValueError, match=says):
            read_index(tmp_path)


def test_a_rank_that_cannot_write_fails_the_save_on_every_rank(tmp_path: Path) -> None:
    for said in ranks(2, _save_where_one_cannot, str(tmp_path)):
        assert "not saved" in said[0]
        assert said[1] == ["step-00000002"]


def _save_where_one_cannot(folder: str) -> tuple[str, list[str]]:
    """The second rank's tensor is of a type that no file takes; then both save again."""
    world = start(ParallelConfig(), device="cpu")
    checkpoints, mesh = Checkpoints(folder, 3, world=world), init_device_mesh("cpu", (2,))
    dtype = torch.complex64 if world.rank else torch.float32
    told = ""
    for step, kind in ((1, dtype), (2, torch.float32)):
        weights = DTensor.from_local(torch.ones(2, dtype=kind), mesh, [Shard0(0)], run_check=False)
        checkpoints.save(step, {"model.w": weights}, {})
        try:
            checkpoints.wait()
        except TrainError as error:
            told = str(error)
    return told, [path.name for path in checkpoints.all()]


def test_other_tensors_are_a_sentence(saved: Path) -> None:
    with pytest.raises(TrainError, match=r"model.a is \[5, 3\], but \[5, 4\] is wanted"):
        load_tensors(saved, {"model.a": torch.zeros(5, 4)})
    with pytest.raises(TrainError, match="1 tensors are missing: model.z; it holds 1 ema.…, 2 model.…, 2 optim.…"):
        load_tensors(saved, {"model.a": torch.zeros(5, 3), "model.z": torch.zeros(1)})
    with pytest.raises(TrainError, match="no tensor begins with 'lora.'"):
        read_tensors(saved, "lora.")


def test_saved_by_two_resumed_by_two_one_and_four(tmp_path: Path) -> None:
    expect = alone(steps=4)
    for found in ranks(2, _save_and_resume, str(tmp_path)):
        assert found["losses"] == pytest.approx(expect, rel=1e-5)
        assert found["again"] == found["losses"][2:]  # to the bit, on the same layout
    path = find_checkpoint(tmp_path)
    assert len(list(path.glob("*.safetensors"))) == 2
    one = _resume(str(path), {})
    assert one == pytest.approx(expect[2:], rel=1e-5)
    for found in ranks(4, _resume, str(path), {"replicate": 2, "context": 2, "context_form": "ring"}):
        assert found == pytest.approx(expect[2:], rel=1e-5)


def test_shards_of_a_gpu_s_mesh_are_saved_from_cpu_memory(tmp_path: Path) -> None:
    assert ranks(1, _save_from_a_gpu_s_mesh, str(tmp_path)) == [["cpu", [0.0, 1.0, 2.0, 3.0]]]


def _save_from_a_gpu_s_mesh(folder: str) -> tuple[str, list[float]]:
    """A shard in CPU memory on a mesh of CUDA devices, as a save copies it; without CUDA it could not go back."""
    os.environ.pop("LOCAL_RANK")  # by which a mesh would choose a GPU
    torch.distributed.init_process_group("gloo")
    mesh = DeviceMesh("cuda", [0])
    shard = DTensor.from_local(torch.empty(4, device="meta"), mesh, [Shard0(0)], run_check=False)
    weights = torch.ones_like(shard, device="cpu").cumsum(0) - 1
    copied = Staging().copy({"w": weights})["w"].local
    checkpoints = Checkpoints(folder, 1)
    path = checkpoints.save(1, {"model.w": weights}, {})
    checkpoints.wait()
    return copied.device.type, read_tensors(path)["model.w"].tolist()


def _save_and_resume(folder: str) -> dict[str, list[float]]:
    """Two steps, a checkpoint, two steps that overlap with its saving; then the last two again from it."""
    parallel = ParallelConfig()
    world = start(parallel, device="cpu")
    run, checkpoints = begin(parallel, world), Checkpoints(folder, 1, world=world)
    losses = [run.step(i) for i in range(2)]
    path = checkpoints.save(2, run.tensors(), {})
    losses += [run.step(i) for i in range(2, 4)]
    checkpoints.wait()
    world.barrier()
    return {"losses": losses, "again": _resume(str(path), {})}


def _resume(path: str, options: dict[str, object]) -> list[float]:
    parallel = ParallelConfig.model_validate(options)
    world = start(parallel, device="cpu")
    run = begin(parallel, world, seed=5)
    load_tensors(path, run.tensors())
    return [run.step(i) for i in range(2, 4)]
