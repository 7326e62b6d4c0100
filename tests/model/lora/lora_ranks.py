"""What each rank of the FSDP2 test of LoRA does."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from reelwright.model.lora.adapters import add_lora, init_lora, lora_parameters, merge_lora, unmerge_lora
from reelwright.model.lora.files import load_lora, save_lora
from tests.model.lora.test_adapters import CONFIG, Net, X


def train_merge_and_save(folder: Path) -> None:
    dist.init_process_group("gloo")
    net = Net()
    add_lora(net, CONFIG, seed=9)
    mesh = init_device_mesh("cpu", (2,))
    for block in net.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh)
    init_lora(net, seed=5)
    optimizer = torch.optim.SGD(lora_parameters(net), lr=0.1)
    for _ in range(2):
        net(X).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    net.reshard()
    save_lora(net, folder / "sharded.safetensors")
    dist.barrier()
    load_lora(net, folder / "sharded.safetensors")  # into the shards
    before = [p.to_local().clone() for p in net.parameters()]
    merge_lora(net)
    out = net(X)
    net.reshard()
    if dist.get_rank() == 0:
        save_file({"out": out.detach()}, folder / "merged.safetensors")
    unmerge_lora(net)
    assert all(torch.equal(a, p.to_local()) for a, p in zip(before, net.parameters(), strict=True))
    dist.barrier()  # a rank that leaves while the other still talks to it is aborted by gloo
    dist.destroy_process_group()
