#!/usr/bin/env python3
"""Checkpoint to ONNX: 1 x 3 x N x N float32 (RGB, 0..1) in, 1 x 4 x N x N probabilities out; checked against PyTorch on drawn pictures.

    python export.py --model run/a.pt --out ../iris.onnx

Written node by node, so that the file depends on the weights alone: Conv (its normalisation folded in), Relu, Add, Concat, Resize, Reshape,
Transpose, Sigmoid, which every execution provider has.
"""
import argparse
import hashlib
import os

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

import render
from net import CHANNELS, Separable
from train import load


class Graph:
    def __init__(self):
        self.nodes, self.values, self.count = [], [], 0

    def add(self, kind, inputs, **attributes):
        self.count += 1
        out = f"{kind.lower()}_{self.count}"
        self.nodes.append(helper.make_node(kind, inputs, [out], name=out, **attributes))
        return out

    def constant(self, array):
        name = f"w_{len(self.values)}"
        self.values.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def conv(self, x, layer, norm=None):
        weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        if norm is not None:
            scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
            weight, bias = weight * scale[:, None, None, None], norm.bias.detach() - norm.running_mean * scale
        inputs = [x, self.constant(weight.numpy())] + ([] if bias is None else [self.constant(bias.numpy())])
        p = list(layer.padding)
        return self.add("Conv", inputs, kernel_shape=list(layer.kernel_size), strides=list(layer.stride), pads=p + p, group=layer.groups)

    def block(self, x, b):
        y = self.conv(x, b.d) if isinstance(b, Separable) else x
        y = self.conv(y, b.p[0], b.p[1])
        return self.add("Relu", [self.add("Add", [x, y]) if b.residual else y])

    def integers(self, *values):
        return self.constant(np.array(values, np.int64))


def graph_of(net, size):
    g = Graph()
    half, four = g.constant(np.float32(0.5)), g.constant(np.float32(4))
    x = g.add("Mul", [g.add("Sub", ["rgb", half]), four])
    x = g.add("Relu", [g.conv(x, net.stem[0][0], net.stem[0][1])])
    skips = []
    for stage in net.e:
        for b in stage:
            x = g.block(x, b)
        skips.append(x)
    x = skips.pop()
    twice = g.constant(np.array([1, 1, 2, 2], np.float32))
    for stage in net.d:
        x = g.add("Resize", [x, "", twice], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        x = g.conv(g.add("Concat", [x, skips.pop()], axis=1), stage[0])
        for b in stage[1:]:
            x = g.block(x, b)
    x, s = g.conv(x, net.h), size // 2
    x = g.add("Transpose", [g.add("Reshape", [x, g.integers(1, net.out, 2, 2, s, s)])], perm=[0, 1, 4, 2, 5, 3])
    x = g.add("Reshape", [x, g.integers(1, net.out, size, size)])
    g.nodes.append(helper.make_node("Sigmoid", [x], ["prob"], name="prob"))
    info = lambda name, channels: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, size, size])
    graph = helper.make_graph(g.nodes, "iris", [info("rgb", 3)], [info("prob", net.out)], g.values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="irisd weights/iris/export.py", ir_version=8)
    notes = dict(channels=",".join(CHANNELS), input="RGB 0..1, letterboxed, padding 127/255", training="drawn eyes alone (weights/iris)")
    helper.set_model_props(model, notes)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--size", type=int, default=128)
    a = parser.parse_args()
    net = load(a.model).eval()
    onnx.save(graph_of(net, a.size), a.out)
    session = onnxruntime.InferenceSession(a.out, providers=["CPUExecutionProvider"])
    r, worst = np.random.default_rng(0), 0.0
    for _ in range(12):
        x = (render.sample(r, a.size)[0].astype(np.float32) / 255).transpose(2, 0, 1)[None].copy()
        with torch.no_grad():
            want = torch.sigmoid(net(torch.from_numpy(x))).numpy()
        worst = max(worst, np.abs(want - session.run(None, {"rgb": x})[0]).max())
    data = open(a.out, "rb").read()
    print(f"{sum(p.numel() for p in net.parameters())} parameters, {len(data)} bytes, largest difference to PyTorch {worst:.1e}")
    print("sha256", hashlib.sha256(data).hexdigest())
