"""The network: a U-Net whose few-channel, high-resolution stages are plain 3x3 and whose deep ones are depthwise separable.

N x 3 x H x W (RGB, 0..1; H, W multiples of 32) to N x 4 x H x W logits: visible iris with pupil, visible pupil, whole limbus disc, opening.
"""
import torch
from torch import nn
from torch.nn import functional as F

CHANNELS = ["visible", "pupil", "limbus", "opening"]
ENCODER, DECODER, REPEATS = (16, 40, 80, 128, 160), (16, 40, 64, 80), (0, 1, 2, 2, 3)


def conv(i, o, k=1, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o))


class Separable(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.d = nn.Conv2d(i, i, 3, stride, 1, groups=i, bias=False)
        self.p, self.residual = conv(i, o), i == o and stride == 1

    def forward(self, x):
        y = self.p(self.d(x))
        return F.relu(x + y if self.residual else y)


class Plain(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.p, self.residual = conv(i, o, 3, stride), i == o and stride == 1

    def forward(self, x):
        y = self.p(x)
        return F.relu(x + y if self.residual else y)


BLOCKS = [Plain, Plain, Separable, Separable, Separable]


class Net(nn.Module):
    def __init__(self, c=ENCODER, d=DECODER, n=REPEATS, out=len(CHANNELS)):
        super().__init__()
        self.cfg, self.out = dict(c=tuple(c), d=tuple(d), n=tuple(n), out=out), out
        self.stem = nn.Sequential(conv(3, c[0], 3, 2), nn.ReLU())
        repeat = lambda k, width: [BLOCKS[k](width, width) for _ in range(n[k])]
        self.e = nn.ModuleList([nn.Sequential(*repeat(0, c[0]))])
        for k in range(1, 5):
            self.e.append(nn.Sequential(BLOCKS[k](c[k - 1], c[k], 2), *repeat(k, c[k])))
        self.d, below = nn.ModuleList(), c[4]
        for k in (3, 2, 1, 0):
            blocks = [BLOCKS[k](d[k], d[k]) for _ in range(2 if k else 1)]
            self.d.append(nn.Sequential(nn.Conv2d(below + c[k], d[k], 1, bias=False), *blocks))
            below = d[k]
        self.h = nn.Conv2d(below, out * 4, 1)

    def forward(self, x):
        x, skips = self.stem((x - 0.5) * 4), []
        for stage in self.e:
            x = stage(x)
            skips.append(x)
        x = skips.pop()
        for stage in self.d:
            x = stage(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], 1))
        x = self.h(x)
        n, _, h, w = x.shape  # to twice the side by plain ONNX operations
        return x.reshape(n, self.out, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, self.out, h * 2, w * 2)


@torch.no_grad()
def widened(small, c=ENCODER, d=DECODER, n=REPEATS):
    """A wider net that computes the same as `small` to begin with: what was there is copied, the new channels see everything, and what was
    there does not see them yet (their weights towards the old channels are 0, and learn)."""
    big = Net(c, d, n, small.out)
    old, new = small.state_dict(), big.state_dict()
    below_old, below_new = small.cfg["c"][4], c[4]
    joins = {}
    for i, k in enumerate((3, 2, 1, 0)):  # the input of a decoder stage is two parts side by side
        joins[f"d.{i}.0.weight"] = [(0, below_old, 0), (below_old, small.cfg["c"][k], below_new)]
        below_old, below_new = small.cfg["d"][k], d[k]
    for key, to in new.items():
        have = old[key]
        if to.ndim < 2:
            if to.ndim == 1:
                to[:have.shape[0]] = have
            else:
                to.copy_(have)
            continue
        rows = have.shape[0]
        if to.shape[1] > 1:
            to[:rows] = 0
        for start, count, at in joins.get(key, [(0, have.shape[1], 0)]):
            to[:rows, at:at + count] = have[:, start:start + count]
    big.load_state_dict(new)
    return big
