"""From a drawn picture to what the network is shown: another place, size, turn, exposure, colour, file. One truth for both."""
import cv2
import numpy as np

BITS = np.array([1, 2, 4, 8], np.uint8)
PAD = 127
ASPECTS = [1, 1, 1, 4 / 3, 4 / 3, 3 / 2, 16 / 9, 3 / 4]


def augment(r, im, bits, N):
    """(N x N x 3 bytes, N x N x 4 bytes of truth with edges of a px): letterboxed as the program does it."""
    shape = float(r.choice(ASPECTS))
    w, h = (N, int(round(N / shape))) if shape >= 1 else (int(round(N * shape)), N)
    M = placement(r, im.shape[0], N, w, h)
    edge = dict(borderMode=cv2.BORDER_REFLECT_101) if r.random() < 0.5 else dict(borderMode=cv2.BORDER_CONSTANT)
    x = cv2.warpAffine(im, M, (w, h), flags=cv2.INTER_LINEAR, borderValue=(PAD,) * 3, **edge)
    planes = ((bits[..., None] & BITS) > 0).astype(np.uint8) * 255
    y = cv2.warpAffine(planes, M, (w, h), flags=cv2.INTER_LINEAR, borderValue=(0,) * 4, **edge)
    x = file(r, colour(r, x))
    X, Y = np.full((N, N, 3), PAD, np.uint8), np.zeros((N, N, 4), np.uint8)
    top, left = (N - h) // 2, (N - w) // 2
    X[top:top + h, left:left + w], Y[top:top + h, left:left + w] = x, y
    return X, Y


def placement(r, S, N, w, h):
    scale = N / S * float(np.exp(r.uniform(-0.3, 0.35) if r.random() < 0.85 else r.uniform(-0.8, 0.1)))
    turn = r.normal(0, 0.12) if r.random() < 0.8 else r.uniform(-0.5, 0.5)
    stretch, flip, upside = float(np.exp(r.normal(0, 0.06))), (1 if r.random() < 0.5 else -1), (-1 if r.random() < 0.08 else 1)
    c, s = np.cos(turn), np.sin(turn)
    M = np.array([[flip * scale * stretch * c, -upside * scale * s], [flip * scale / stretch * s, upside * scale * c]])
    centre = np.array([S / 2 + r.normal(0, 0.05 * S), S / 2 + r.normal(0, 0.05 * S)])
    return np.concatenate([M, (np.array([w / 2, h / 2]) - M @ centre)[:, None]], 1)


def colour(r, x):
    t = np.linspace(0, 1, 256)
    if r.random() < 0.8:
        gain = np.exp(r.normal(0, 0.15)) * np.exp(r.normal(0, 0.06, 3))
        if r.random() < 0.2:  # badly exposed: -2.2 to +1 EV, in linear light
            gain = gain * 2 ** (r.uniform(-2.2, 1.0) / 2.2)
        lut = np.clip(t[:, None] ** np.exp(r.normal(0, 0.2)) * gain + r.normal(0, 0.03), 0, 1)
        x = cv2.LUT(x, (lut * 255).astype(np.uint8)[None])
    if r.random() < 0.12:  # channels mixed: filters, odd white balance
        mix = np.eye(3) + r.normal(0, 0.15, (3, 3))
        x = cv2.transform(x, mix / np.maximum(mix.sum(1, keepdims=True), 0.3))
    if r.random() < 0.05:
        x = np.repeat(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    return x


def file(r, x):
    k = r.random()
    if k < 0.12:
        x = cv2.GaussianBlur(x, (0, 0), r.uniform(0.4, 1.5))
    elif k < 0.16:
        x = cv2.blur(x, (int(r.integers(1, 8)), int(r.integers(1, 8))))
    elif k < 0.2:
        h, w = x.shape[:2]
        q = r.uniform(1.3, 3)
        x = cv2.resize(cv2.resize(x, (int(w / q), int(h / q)), interpolation=cv2.INTER_AREA), (w, h))
    if r.random() < 0.1:
        x = np.clip(x + r.normal(0, r.uniform(2, 14), x.shape[:2] + (1 if r.random() < 0.5 else 3,)), 0, 255).astype(np.uint8)
    if r.random() < 0.1:
        x = cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(r.integers(20, 70))])[1], 1)
    return x
