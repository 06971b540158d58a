#!/usr/bin/env python3
"""Trains the segmenter on drawn eyes alone.

    python train.py --data 'data/a_*' --out run/a --steps 6000 --init run/before.pt --seed 3

Local SGD: each worker is a process of one thread with pictures of its own; every few steps they take the mean of their weights. Two cores that
other work shares stall a two-threaded step, but not these. Writes OUT.pt (the slow mean of the weights) every minute and OUT.tsv (the curve).
With --minutes the schedule follows the clock: seeded, but not repeatable to the bit.
"""
import argparse
import copy
import glob
import math
import os
import time

import cv2
import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional as F

from augment import augment
from net import Net, widened

WEIGHTS = torch.tensor([1.0, 0.6, 0.7, 0.7])
MEET = 8  # steps between means over the workers
SLOW = 0.997


def loss_of(logits, truth):
    """Cross entropy and Dice, each channel by its weight."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((2, 3))
    p = torch.sigmoid(logits)
    dice = 1 - (2 * (p * truth).sum((2, 3)) + 4) / ((p + truth).sum((2, 3)) + 4)
    return ((2 * entropy + dice) * WEIGHTS).mean()


class Pictures:
    """Shards in memory, shuffled; new shards of the same pattern join at the end of each round."""

    def __init__(self, patterns, seed, rank, workers):
        self.patterns, self.r, self.rank, self.workers = patterns, np.random.default_rng([seed, rank]), rank, workers
        self.names, self.shards, self.order = [], [], []

    def refresh(self):
        found = sorted({f[:-6] for p in self.patterns for f in glob.glob(p + "_m.npy")})
        for k, name in enumerate(found):
            if k % self.workers == self.rank and name not in self.names:
                self.names.append(name)
                self.shards.append((np.load(name + "_x.npy"), np.load(name + "_b.npy")))
        every = [(i, j) for i, s in enumerate(self.shards) for j in range(len(s[0]))]
        self.order = [every[k] for k in self.r.permutation(len(every))]

    def batch(self, size, N):
        x, y = np.empty((size, N, N, 3), np.uint8), np.empty((size, N, N, 4), np.uint8)
        for k in range(size):
            if not self.order:
                self.refresh()
            i, j = self.order.pop()
            x[k], y[k] = augment(self.r, self.shards[i][0][j], self.shards[i][1][j], N)
        as_input = lambda a: torch.from_numpy(a).permute(0, 3, 1, 2).float().div_(255)
        return as_input(x).contiguous(memory_format=torch.channels_last), as_input(y)


def load(path):
    kept = torch.load(path, weights_only=True, map_location="cpu")
    net = Net(**kept["cfg"])
    net.load_state_dict(kept["state"])
    return net


def start(a):
    if not a.init:
        return Net()
    net = load(a.init)
    return net if net.cfg == Net().cfg else widened(net)


def meet(net, workers):
    """Mean of the weights and of the running statistics over all workers."""
    values = [v for v in net.state_dict().values() if v.dtype.is_floating_point]
    flat = torch.cat([v.reshape(-1) for v in values])
    dist.all_reduce(flat)
    flat /= workers
    at = 0
    for v in values:
        v.copy_(flat[at:at + v.numel()].view_as(v))
        at += v.numel()


def work(rank, a):
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(a.seed)
    dist.init_process_group("gloo", init_method=f"file://{os.path.abspath(a.out)}.meet", rank=rank, world_size=a.workers)
    net = start(a).to(memory_format=torch.channels_last).train()
    slow = copy.deepcopy(net).eval()
    optimiser = torch.optim.AdamW(net.parameters(), lr=a.lr, weight_decay=1e-3)
    pictures = Pictures(a.data, a.seed, rank, a.workers)
    began = saved = time.time()
    losses, step, done = [], 0, torch.zeros(1)
    curve = open(a.out + ".tsv", "w") if rank == 0 else None
    if curve:
        curve.write("seconds\tstep\tpictures\tlearning rate\tloss\n")

    def save():
        torch.save(dict(state=slow.state_dict(), cfg=net.cfg, size=a.size, step=step), a.out + ".tmp")
        os.replace(a.out + ".tmp", a.out + ".pt")

    while done.item() < 1:
        rate = a.lr * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * min(done.item(), 1))) + 1e-5
        for group in optimiser.param_groups:
            group["lr"] = rate
        x, y = pictures.batch(a.batch, a.size)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(x)
        loss = loss_of(logits.float(), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        step += 1
        losses.append(loss.item())
        if step % MEET == 0:
            with torch.no_grad():
                meet(net, a.workers)
                share = min(SLOW ** MEET, (1 + step) / (10 + step))
                for to, value in zip(slow.state_dict().values(), net.state_dict().values()):
                    to.lerp_(value, 1 - share) if to.dtype.is_floating_point else to.copy_(value)
            done.fill_(step / a.steps if a.steps else (time.time() - began) / 60 / a.minutes)
            dist.broadcast(done, 0)
            if curve and step % (MEET * 8) == 0:
                curve.write(f"{time.time() - began:.0f}\t{step}\t{step * a.batch * a.workers}\t{rate:.5f}\t{np.mean(losses):.4f}\n")
                curve.flush()
                losses = []
            if curve and time.time() - saved > 60:
                saved = time.time()
                save()
    if rank == 0:
        save()
        os.remove(a.out + ".meet")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="+", required=True, help="names of shards without _x.npy; may hold *")
    parser.add_argument("--out", required=True)
    parser.add_argument("--init", default="", help="a .pt to go on from; a narrower one is widened")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32, help="of each worker")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
    mp.spawn(work, (args,), nprocs=args.workers)
