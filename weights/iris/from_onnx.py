#!/usr/bin/env python3
"""An exported network back to a checkpoint that training can go on from.

    python from_onnx.py --onnx ../iris.onnx --data 'data/a_*' --out run/before.pt

The export folded each normalisation into its convolution. Here it gets the statistics that pictures give it, and the scale and shift that
undo them: the same outputs, and training starts where it stopped.
"""
import argparse

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from net import Net
from train import Pictures


def convolutions(net):
    """In the order in which they run, which is the export's."""
    order, hooks = [], []
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            hooks.append(m.register_forward_hook(lambda m, *_: order.append(m)))
    with torch.no_grad():
        net(torch.zeros(1, 3, 64, 64))
    for h in hooks:
        h.remove()
    return order


@torch.no_grad()
def restored(path, pictures, cfg, size=128):
    net = Net(**cfg).eval()
    graph = onnx.load(path).graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes = [n for n in graph.node if n.op_type == "Conv"]
    norms = {id(s[0]): s[1] for s in net.modules() if isinstance(s, nn.Sequential) and len(s) == 2 and isinstance(s[1], nn.BatchNorm2d)}
    order = convolutions(net)
    assert len(order) == len(nodes)
    for conv, node in zip(order, nodes):
        conv.weight.copy_(torch.from_numpy(np.array(values[node.input[1]])))
        bias = torch.from_numpy(np.array(values[node.input[2]])) if len(node.input) > 2 else None
        norm = norms.get(id(conv))
        if norm is not None:
            norm.running_var.fill_(1 - norm.eps)
            norm.bias.copy_(bias)
        elif bias is not None:
            conv.bias.copy_(bias)
    seen, hooks = {}, []
    for norm in norms.values():
        hooks.append(norm.register_forward_hook(lambda m, x, _: seen.setdefault(m, []).append((x[0].mean((0, 2, 3)), x[0].var((0, 2, 3))))))
    for _ in range(8):
        net(pictures.batch(32, size)[0])
    for h in hooks:
        h.remove()
    for norm, stats in seen.items():
        mean, var = torch.stack([m for m, _ in stats]).mean(0), torch.stack([v for _, v in stats]).mean(0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.copy_((var + norm.eps).sqrt())
        norm.bias.add_(mean)
    return net


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--onnx", required=True)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--widths", default="16,32,64,96,128/16,32,48,64")
    a = parser.parse_args()
    c, d = (tuple(map(int, part.split(","))) for part in a.widths.split("/"))
    net = restored(a.onnx, Pictures(a.data, 0, 0, 1), dict(c=c, d=d))
    torch.save(dict(state=net.state_dict(), cfg=net.cfg, size=128, step=0), a.out)
