#!/usr/bin/env python3
"""Turns an ncnn model (.param, .bin) of the Real-ESRGAN family into ONNX, with Python's standard library alone.

    ncnn2onnx.py MODEL.param MODEL.bin OUT.onnx

The same input gives the same bytes everywhere: the weights are copied as they lie in the .bin, and the few protobuf messages of
onnx.proto are written by hand, in field order. So the result can be checked by its sha256.

Input  "input"  float32 [batch, 3, height, width], RGB, 0..1. Output "output" [batch, 3, 4 height, 4 width], not clamped.
Weights that ncnn keeps as fp16 stay fp16 in the file, with a Cast in front of their use (lossless; the runtime folds it).
Layers known: Input Split Convolution (with fused ReLU or LeakyReLU) PReLU PixelShuffle Interp (nearest) BinaryOp (add)
Eltwise (weighted sum) Concat. Anything else ends the program: a layer that is guessed would be a picture that is wrong.
"""
import struct
import sys

FLOAT, FLOAT16 = 1, 10  # TensorProto.DataType
OPSET, IR_VERSION = 17, 8


# --- protobuf, the part that onnx.proto needs


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def number(field, n):
    return varint(field << 3) + varint(n)


def block(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def real(field, x):
    return varint(field << 3 | 5) + struct.pack("<f", x)


# --- onnx messages


def attribute(name, value):
    head = block(1, name)
    if isinstance(value, int):
        return block(5, head + number(3, value) + number(20, 2))
    if isinstance(value, float):
        return block(5, head + real(2, value) + number(20, 1))
    if isinstance(value, str):
        return block(5, head + block(4, value) + number(20, 3))
    return block(5, head + b"".join(number(8, v) for v in value) + number(20, 7))


def node(op, inputs, output, **attributes):
    parts = [block(1, i) for i in inputs] + [block(2, output), block(3, output + "/" + op), block(4, op)]
    return b"".join(parts + [attribute(k, v) for k, v in attributes.items()])


def tensor(name, kind, shape, raw):
    return b"".join([number(1, d) for d in shape] + [number(2, kind), block(8, name), block(9, raw)])


def value_info(name, height, width):
    batch, channels = block(2, "batch"), number(1, 3)
    dims = [batch, channels, block(2, height), block(2, width)]
    shape = b"".join(block(1, d) for d in dims)
    return block(1, name) + block(2, block(1, number(1, FLOAT) + block(2, shape)))


# --- ncnn


def layers(path):
    """(type, name, inputs, outputs, {parameter id: value}) for each line of the .param file."""
    lines = [line.split() for line in open(path).read().splitlines() if line.strip()]
    if lines[0] != ["7767517"]:
        sys.exit(f"{path}: not an ncnn .param file")
    for words in lines[2:]:
        kind, name, n_in, n_out = words[0], words[1], int(words[2]), int(words[3])
        at = 4 + n_in
        parameters = {}
        for pair in words[at + n_out :]:
            key, value = pair.split("=", 1)
            if int(key) <= -23300:  # an array: its length, then its values
                parameters[-23300 - int(key)] = [float(v) for v in value.split(",")[1:]]
            else:
                parameters[int(key)] = float(value) if "." in value or "e" in value else int(value)
        yield kind, name, words[4:at], words[at : at + n_out], parameters


class Weights:
    """The .bin file, read in the order of the layers."""

    def __init__(self, path):
        self.data, self.at = open(path, "rb").read(), 0

    def take(self, n):
        self.at += n
        return self.data[self.at - n : self.at]

    def plain(self, n):
        return FLOAT, self.take(4 * n)

    def tagged(self, n):
        (tag,) = struct.unpack("<I", self.take(4))
        if tag == 0x01306B47:  # fp16, padded to whole words
            return FLOAT16, self.take((2 * n + 3) // 4 * 4)[: 2 * n]
        if tag == 0:
            return self.plain(n)
        sys.exit(f"weights with tag {tag:#x} are not supported")


class Graph:
    def __init__(self, weights):
        self.weights, self.nodes, self.tensors, self.alias = weights, [], [], {}

    def add(self, op, inputs, output, **attributes):
        self.nodes.append(block(1, node(op, inputs, output, **attributes)))

    def constant(self, name, shape, kind_and_raw):
        kind, raw = kind_and_raw
        stored = name + "_h" if kind == FLOAT16 else name
        self.tensors.append(block(5, tensor(stored, kind, shape, raw)))
        if kind == FLOAT16:
            self.add("Cast", [stored], name, to=FLOAT)
        return name

    def layer(self, kind, name, inputs, outputs, p):
        x, y = [self.alias.get(i, i) for i in inputs], outputs[0]
        if kind == "Input":
            self.alias[y] = "input"
        elif kind == "Split":
            self.alias.update((o, x[0]) for o in outputs)
        elif kind == "Convolution":
            self.convolution(name, x[0], y, p)
        elif kind == "PReLU":
            self.add("PRelu", [x[0], self.constant(name + "_s", [p[0], 1, 1], self.weights.plain(p[0]))], y)
        elif kind == "PixelShuffle" and p.get(1, 0) == 0:
            self.add("DepthToSpace", x, y, blocksize=p[0], mode="CRD")
        elif kind == "Interp" and p[0] == 1:
            scales = FLOAT, struct.pack("<4f", 1, 1, p[1], p[2])
            x = [x[0], "", self.constant(name + "_scales", [4], scales)]
            self.add("Resize", x, y, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")
        elif kind == "BinaryOp" and p.get(0, 0) == 0:
            self.add("Add", x, y)
        elif kind == "Eltwise" and p[0] == 1 and len(x) == 2:
            self.weighted_sum(name, x, y, p.get(1, [1.0, 1.0]))
        elif kind == "Concat" and p.get(0, 0) == 0:
            self.add("Concat", x, y, axis=1)
        else:
            sys.exit(f"layer {name}: {kind} {p} is not supported")

    def convolution(self, name, x, y, p):
        n_out, kw = p[0], p[1]
        kh, pad = p.get(11, kw), p.get(4, 0)
        shape = [n_out, p[6] // (n_out * kw * kh), kh, kw]
        inputs = [x, self.constant(name + "_w", shape, self.weights.tagged(p[6]))]
        if p.get(5, 0):
            inputs.append(self.constant(name + "_b", [n_out], self.weights.plain(n_out)))
        activation = p.get(9, 0)
        raw = y if activation == 0 else y + "_raw"
        stride, dilation = p.get(3, 1), p.get(2, 1)
        self.add("Conv", inputs, raw, kernel_shape=[kh, kw], pads=[pad] * 4, strides=[stride] * 2, dilations=[dilation] * 2)
        if activation == 1:
            self.add("Relu", [raw], y)
        elif activation == 2:
            self.add("LeakyRelu", [raw], y, alpha=p[10][0])
        elif activation:
            sys.exit(f"layer {name}: activation {activation} is not supported")

    def weighted_sum(self, name, x, y, weights):
        terms = []
        for k, (term, weight) in enumerate(zip(x, weights)):
            if weight != 1.0:
                factor = self.constant(f"{name}_c{k}", [], (FLOAT, struct.pack("<f", weight)))
                self.add("Mul", [term, factor], f"{name}_m{k}")
                term = f"{name}_m{k}"
            terms.append(term)
        self.add("Add", terms, y)


def main(param, binary, out):
    graph = Graph(Weights(binary))
    last = None
    for kind, name, inputs, outputs, parameters in layers(param):
        graph.layer(kind, name, inputs, outputs, parameters)
        last = outputs[0]
    if graph.weights.at != len(graph.weights.data):
        sys.exit(f"{binary}: {len(graph.weights.data) - graph.weights.at} bytes were not used: the two files do not belong together")
    if last != "output":
        graph.add("Identity", [graph.alias.get(last, last)], "output")
    body = graph.nodes + [block(2, "super_resolution")] + graph.tensors
    body += [block(11, value_info("input", "height", "width")), block(12, value_info("output", "out_height", "out_width"))]
    opset = block(8, block(1, "") + number(2, OPSET))
    with open(out, "wb") as f:
        f.write(number(1, IR_VERSION) + block(2, "irisd ncnn2onnx") + block(7, b"".join(body)) + opset)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
