"""One eye: geometry, then skin, eyeball, lids, lashes, brow, and what hangs in front; with its truth to the pixel.

Coordinates: (u, v) in limbus radii from where the iris lies when the eye looks straight ahead, turned with the eye; v points down. The
gaze moves the iris away from there and squeezes its disc. Bits of the truth, for each px:

    1 visible iris with its pupil    2 visible pupil    4 the whole limbus disc, under the lids too    8 the opening between the lids

Lashes and single hairs in front are not cut out of the iris: a person who draws its outline does not either. Where the upper lashes hang so
thickly that they hide more than they leave, the visible iris and the opening end below them, in a smooth line.
"""
import cv2
import numpy as np

from ball import eyeball
from field import (background, blurred, chance, curve, ellipse, f4, fractal, line, noise, over, pick, polygon, random_colour, rgb, share,
                   sigmoid, skin, skin_colour, step, uniform, vary)

VISIBLE, PUPIL, LIMBUS, OPENING = 1, 2, 4, 8


class Eye:
    """What is decided about an eye before anything is drawn, and the maps that follow from it."""

    def __init__(self, r, S):
        self.S = S
        self.R, self.x, self.y = framing(r, S)
        self.tilt = r.normal(0, 0.14) if chance(r, 0.75) else uniform(r, -0.7, 0.7)
        self.mirror = pick(r, [1, -1])
        gaze_u, gaze_v = gaze(r)
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        self.turn = np.array([[c, s], [-s, c]])
        self.origin = np.array([self.x, self.y]) - self.R * (np.array([gaze_u, gaze_v]) @ self.turn)
        yy, xx = np.mgrid[0:S, 0:S].astype(f4)
        dx, dy = (xx + 0.5 - self.origin[0]) / self.R, (yy + 0.5 - self.origin[1]) / self.R
        self.u, self.v = (c * dx + s * dy).astype(f4), (-s * dx + c * dy).astype(f4)
        self._lids(r)
        self._iris(r, gaze_u, gaze_v, xx, yy)
        self.skin_base = skin_colour(r)

    def _lids(self, r):
        self.width, self.mid, self.line, self.slope = uniform(r, 1.95, 2.9), uniform(r, -0.15, 0.15), uniform(r, 0, 0.35), r.normal(0, 0.06)
        up, down = pick(r, [((0.85, 1.25), (0.6, 0.95)), ((1.15, 1.6), (0.8, 1.3)), ((0.4, 0.9), (0.35, 0.75)), ((0.7, 1.3), (0.4, 1.1))],
                        [0.5, 0.2, 0.18, 0.12])
        skew = 0.15 if chance(r, 0.75) else 0.35
        self.upper = uniform(r, *up), uniform(r, 1.7, 2.8), uniform(r, 0.7, 1.15), r.normal(0, skew)
        self.lower = uniform(r, *down), uniform(r, 1.8, 3), uniform(r, 0.7, 1.2), r.normal(0, 0.8 * skew)
        wobble = r.normal(0, 0.012) * np.sin(self.u * uniform(r, 2, 8) + uniform(r, 0, 6))
        self.top, self.bottom = self.lid_at(self.u, -1) + wobble, self.lid_at(self.u, 1)
        self.above, self.below = self.top - self.v, self.v - self.bottom
        self.along = np.abs(self.u - self.mid) / self.width
        # px inside the opening; the corners count less, since their edge is nearly along u.
        self.depth = np.minimum(np.minimum(-self.above, -self.below), (1 - self.along) * self.width * 0.6) * self.R
        soft = max(0.7, self.R * uniform(r, 0.005, 0.03))
        self.open = sigmoid(self.depth / (soft * 0.5)).astype(f4)
        self.inside = (self.v > self.top) & (self.v < self.bottom)
        self.outside = np.maximum(np.maximum(self.above, self.below), np.maximum((self.along - 1) * self.width, 0)).astype(f4)

    def lid_at(self, u, side):
        """v of the upper (-1) or lower (1) lid's edge."""
        height, p, q, skew = self.upper if side < 0 else self.lower
        t = np.clip((u - self.mid) / self.width, -1, 1)
        t = np.clip(t + skew * (1 - t * t), -1, 1)
        return self.line + self.slope * (u - self.mid) + side * height * np.maximum(1 - np.abs(t) ** p, 0) ** q

    def _iris(self, r, gaze_u, gaze_v, xx, yy):
        away = np.hypot(gaze_u, gaze_v)
        squeeze = np.sqrt(max(1 - (away * uniform(r, 0.25, 0.5)) ** 2, 0.4)) * (1 - abs(r.normal(0, 0.015)))
        self.squeeze, self.axis = float(np.clip(squeeze, 0.66, 1)), np.arctan2(gaze_v, gaze_u) + self.tilt
        c, s = np.cos(self.axis), np.sin(self.axis)
        dx, dy = (xx + 0.5 - self.x) / self.R, (yy + 0.5 - self.y) / self.R
        self.iris_u, self.iris_v = (c * dx + s * dy) / self.squeeze, -s * dx + c * dy
        self.rho = np.hypot(self.iris_u, self.iris_v).astype(f4)
        self.pupil = float(np.clip(r.normal(0.38, 0.13), 0.13, 0.8))
        self.pupil_at, self.pupil_squeeze = r.normal(0, 0.035, 2), uniform(r, 0.93, 1)
        self.pupil_u, self.pupil_v = self.iris_u - self.pupil_at[0], (self.iris_v - self.pupil_at[1]) / self.pupil_squeeze
        self.pupil_rho = np.hypot(self.pupil_u, self.pupil_v)

    def pixels(self, points):
        """(u, v) to px."""
        return self.origin + self.R * (np.asarray(points, float) @ self.turn)

    def truth(self):
        bits = np.zeros((self.S, self.S), np.uint8)
        bits[self.rho < 1] |= LIMBUS
        bits[self.inside] |= OPENING
        bits[self.inside & (self.rho < 1)] |= VISIBLE
        bits[self.inside & (self.pupil_rho < self.pupil) & (self.rho < 1)] |= PUPIL
        return bits

    def ellipses(self):
        """Limbus and pupil: cx, cy, the axis along the gaze, the one across, its angle in degrees (y down)."""
        c, s = np.cos(self.axis), np.sin(self.axis)
        (pu, pv), degrees = self.pupil_at * self.R, np.degrees(self.axis)
        pupil = self.x + c * pu * self.squeeze - s * pv, self.y + s * pu * self.squeeze + c * pv
        size = self.R * self.pupil
        return (self.x, self.y, self.R * self.squeeze, self.R, degrees), (*pupil, size * self.squeeze, size * self.pupil_squeeze, degrees)


def framing(r, S):
    """Radius and centre of the iris. Half as the network sees it when it looks again: 3.4 radii wide, nearly centred."""
    if chance(r, 0.5):
        R = S / (3.4 * float(np.exp(r.normal(0, 0.12))))
        return R, S * (0.5 + r.normal(0, 0.035)), S * (0.5 + r.normal(0, 0.035))
    if chance(r, 0.45):
        R = S * float(np.exp(r.uniform(np.log(0.045), np.log(0.65))))
    else:
        R = S * float(np.clip(np.exp(r.normal(np.log(0.16), 0.45)), 0.045, 0.65))
    if chance(r, 0.75):
        return R, S * (0.5 + r.normal(0, 0.11)), S * (0.5 + r.normal(0, 0.1))
    return R, S * uniform(r, 0.08, 0.92), S * uniform(r, 0.08, 0.92)


def gaze(r):
    k = r.random()
    if k < 0.45:
        u = r.normal(0, 0.14)
    elif k < 0.8:
        u = r.normal(0, 0.5)
    else:
        u = pick(r, [1, -1]) * uniform(r, 0.7, 1.6)
    return float(np.clip(u, -1.7, 1.7)), float(np.clip(r.normal(0, 0.17), -0.6, 0.6))


def draw(r, S):
    """(picture, truth bits, ellipses, R) of a new eye."""
    e = Eye(r, S)
    im = face(r, e)
    im = over(im, e.open, eyeball(r, e))
    im, lash_colour, thicket = lashes(r, e, im)
    im = brow(r, e, im, lash_colour)
    bits = e.truth()
    bits[thicket] &= LIMBUS
    im = in_front(r, e, im, bits, lash_colour)
    return im, bits, e.ellipses(), e.R


def face(r, e):
    """Skin with socket, crease, bags, wrinkles, make-up, and the rims of the lids."""
    S, R = e.S, e.R
    im = skin(r, S, e.skin_base, R)
    im = im * (1 - uniform(r, 0, 0.45) * np.exp(-np.maximum(e.outside, 0) / uniform(r, 0.3, 1.3)))[..., None] ** np.array([0.8, 1, 1], f4)
    crease, width = uniform(r, 0.12, 0.7), uniform(r, 0.02, 0.10)
    at = e.top - crease * (1 + 0.25 * np.cos((e.u - e.mid) / e.width * 2))
    if chance(r, 0.85):
        im = im * (1 - uniform(r, 0.1, 0.9) * np.exp(-((e.v - at) / width) ** 2) * step(1.15, 0.8, e.along))[..., None]
        bulge = np.exp(-((e.v - (e.top + at) / 2) / (crease * 0.35)) ** 2) * step(1.1, 0.7, e.along)
        im = im * (1 + uniform(r, -0.1, 0.35) * bulge)[..., None]
    if chance(r, 0.25):
        hollow = np.exp(-np.maximum(np.maximum(e.above - crease, -e.above), 0) / uniform(r, 0.05, 0.3))
        im = im * (1 - uniform(r, 0.2, 0.8) * hollow * step(1.2, 0.8, e.along))[..., None]
    if chance(r, 0.25):
        ring = np.exp(-np.maximum(e.below, 0) / uniform(r, 0.2, 0.7)) * sigmoid((e.v - e.line) / 0.1) * step(1.3, 0.8, e.along)
        im = im * (1 - uniform(r, 0.1, 0.6) * ring)[..., None]
    for _ in range(r.integers(0, 4)):
        fold = e.v - e.bottom - uniform(r, 0.2, 1.2) - uniform(r, -0.1, 0.1) * e.u
        reach = step(1.3, 0.6, np.abs(e.u - e.mid - r.normal(0, 0.5)) / e.width)
        im = im * (1 - uniform(r, 0.03, 0.25) * np.exp(-(fold / uniform(r, 0.02, 0.1)) ** 2) * reach)[..., None]
    if chance(r, 0.35):
        fine = np.zeros((S, S), np.uint8)
        for _ in range(r.integers(5, 30)):
            x, y, a, l = uniform(r, 0, S), uniform(r, 0, S), e.tilt + r.normal(0, 0.4), R * uniform(r, 0.3, 1.2)
            line(fine, curve(x, y, x + l * np.cos(a), y + l * np.sin(a), r.normal(0, 0.15)), int(r.integers(30, 160)), 1)
        im = im * (1 - uniform(r, 0.1, 0.5) * share(blurred(fine, max(0.6, R * 0.015))))[..., None]
    im = make_up(r, e, im)
    if chance(r, 0.4):  # the side away from the light
        side = e.mirror * (e.u - e.mid) * 0.955 + e.v * uniform(r, -0.7, 0.7)
        im = im * (1 - uniform(r, 0.2, 0.85) * step(uniform(r, 0.2, 1.2), uniform(r, 1.8, 4), side))[..., None]
    return rims(r, e, im)


def make_up(r, e, im):
    if not chance(r, 0.35):
        return im
    colour = random_colour(r) * uniform(r, 0.1, 1) if chance(r, 0.5) else rgb(30, 25, 25) * uniform(r, 0.3, 2)
    w = np.exp(-np.maximum(e.above, 0) / uniform(r, 0.15, 0.9)) * sigmoid((e.line - e.v) / 0.08) * (e.above > -0.05)
    if chance(r, 0.4):
        w = np.maximum(w, np.exp(-np.maximum(e.below, 0) / uniform(r, 0.1, 0.4)) * sigmoid((e.v - e.line) / 0.08))
    w = (w * uniform(r, 0.2, 0.9))[..., None]
    return im * (1 - w) + colour * w * np.exp(0.15 * noise(r, e.S, e.S / 3))[..., None]


def rims(r, e, im):
    """The wet rim below, and above it the dark band where the lashes' roots, liner and the lid's own shadow meet.

    Iris and band are often equally dark: only the lid's curve tells where one ends. So the band is as wide as it gets in photos, its
    upper end ragged."""
    near = step(1.05, 0.9, e.along)
    w = uniform(r, 0.03, 0.16)
    pale = vary(r, np.clip(e.skin_base * 0.6 + rgb(225, 160, 150) * 0.4, 0, 1), 0.08)
    im = over(im, np.exp(-((e.below - w * 0.5) / w) ** 2) * (e.below > -0.02) * near * uniform(r, 0.2, 1), pale)
    if chance(r, 0.15):  # a pale rim above as well
        im = over(im, np.exp(-((e.above - w * 0.4) / (0.6 * w)) ** 2) * (e.above > -0.02) * near * uniform(r, 0.2, 0.9), pale)
    width = uniform(r, 0.02, 0.12) if chance(r, 0.5) else uniform(r, 0.08, 0.32)
    if chance(r, 0.5):
        ragged = noise(r, e.S, e.S / e.R * uniform(r, 3, 12), aspect=0.06)
        width = width * np.clip(1 + uniform(r, 0.2, 0.9) * ragged, 0.15, 3)
    hard = uniform(r, 1, 3)
    band = np.exp(-(np.maximum(e.above, 0) / width) ** hard) * step(1.03, 0.9, e.along) * (e.above > -0.05) * uniform(r, 0.1, 0.97)
    im = over(im, band, im * uniform(r, 0.05, 0.35))
    if chance(r, 0.25):
        liner = np.exp(-np.maximum(e.below, 0) / uniform(r, 0.03, 0.15)) * (e.below > -0.03) * step(1.03, 0.9, e.along) * uniform(r, 0.2, 0.9)
        im = over(im, liner, rgb(25, 18, 18))
    return im


def lashes(r, e, im):
    """Strokes from the lids' edges. Seen from the front an upper lash first dips over the iris, then bends up: `dip`.

    Also their colour, and where they hide about half of what is behind them or more."""
    layer = np.zeros((e.S, e.S), np.uint8)
    colour = vary(r, rgb(*pick(r, [(18, 12, 10), (40, 26, 18), (80, 58, 40), (120, 95, 70)], [0.55, 0.25, 0.13, 0.07])), 0.1)

    def strokes(n, side, shortest, longest, down, width, dip, clump):
        fan, bend = uniform(r, 0.3, 0.9), r.normal(0, 0.1)
        roots = np.sort(r.uniform(-0.97, 0.97, n))
        tips = np.round(roots / clump) * clump if clump else roots
        for root, tip in zip(e.mid + e.width * roots, tips):
            v = float(e.lid_at(root, side))
            length = uniform(r, shortest, longest) * (0.75 - 0.25 * e.mirror * (root - e.mid) / e.width)
            outwards = side * (-1 if chance(r, down) else 1)
            a = outwards * (np.pi / 2 - tip * fan * 0.9) + r.normal(0, 0.18 if not clump else 0.06)
            x1, y1 = root + length * np.cos(a) + (tip * e.width + e.mid - root) * 0.7, v + length * np.sin(a)
            if dip:
                t = np.linspace(0, 1, 7)[:, None]
                low = np.array([root + 0.4 * (x1 - root), v - side * dip * uniform(r, 0.6, 1.6)])
                points = (1 - t) ** 2 * (root, v) + 2 * t * (1 - t) * low + t ** 2 * (x1, y1)
            else:
                points = curve(root, v - side * 0.03, x1, y1, bend * np.sign(root - e.mid + 0.01) + r.normal(0, 0.07), 7)
            points, value, w = e.pixels(points), int(r.integers(110, 256)), e.R * width
            if w > 1.6:
                line(layer, points[:5], value, round(w))
                line(layer, points[3:], value, round(w * 0.55))
            else:
                line(layer, points, int(value * min(1, max(0.35, w))), 1)

    strength, thicket = uniform(r, 0.5, 1), np.zeros((e.S, e.S), bool)
    if chance(r, 0.92):
        if chance(r, 0.25):  # a thick fringe that hangs over the iris before it turns up
            strokes(int(r.integers(110, 280)), -1, uniform(r, 0.15, 0.4), uniform(r, 0.45, 1.2), pick(r, [0, 0.3]), uniform(r, 0.02, 0.06),
                    uniform(r, 0.15, 0.6), uniform(r, 0.04, 0.12) if chance(r, 0.4) else 0)
        n = int(r.integers(18, 60)) if chance(r, 0.5) else int(r.integers(50, 170))
        strokes(n, -1, uniform(r, 0.15, 0.4), uniform(r, 0.45, 1.2), pick(r, [0, 0.15, 0.5, 1], [0.62, 0.14, 0.12, 0.12]),
                uniform(r, 0.015, 0.06), uniform(r, 0.08, 0.5) if chance(r, 0.4) else 0, uniform(r, 0.05, 0.15) if chance(r, 0.3) else 0)
        cover = cv2.GaussianBlur(share(layer) * strength, (0, 0), max(0.5, 0.25 * e.R), sigmaY=max(0.5, 0.07 * e.R))
        thicket = (cover > 0.47) & (e.v < e.line)
    if chance(r, 0.7):
        strokes(int(r.integers(10, 80)), 1, 0.1, uniform(r, 0.2, 0.6), 0, uniform(r, 0.012, 0.03), 0, uniform(r, 0.06, 0.2) if chance(r, 0.2) else 0)
    if chance(r, 0.2):  # a liner's wing
        length, u = uniform(r, 0.2, 1), e.mid - e.mirror * e.width * 0.93
        v = float(e.lid_at(u, -1))
        wing = e.pixels(curve(u, v, u - e.mirror * length, v - length * uniform(r, -0.1, 0.7), r.normal(0, 0.1), 6))
        line(layer, wing[:4], 255, round(e.R * uniform(r, 0.05, 0.18)))
        line(layer, wing, 255, round(e.R * 0.04))
    if chance(r, 0.5):
        im = im * (1 - uniform(r, 0.1, 0.7) * share(blurred(layer, max(0.7, e.R * uniform(r, 0.03, 0.12)))))[..., None]
    if chance(r, 0.25):  # in front of the sharp plane
        layer = blurred(layer, e.R * uniform(r, 0.01, 0.06))
    return over(im, share(layer) * strength, colour), colour, thicket


def brow(r, e, im, colour):
    if not (chance(r, 0.7) and e.R < e.S * 0.3):
        return im
    layer = np.zeros((e.S, e.S), np.uint8)
    gap, thick, arch = uniform(r, 1.2, 2.6), uniform(r, 0.12, 0.45), uniform(r, 0.1, 0.7)
    base = e.line - e.upper[0] - gap
    for u in r.uniform(-1.35, 1.35, int(r.integers(60, 320))) * e.width + e.mid:
        v = base + arch * ((u - e.mid) / e.width) ** 2 * 1.2 + r.normal(0, thick * 0.6)
        a, length = -0.5 - 0.9 * e.mirror * (u - e.mid) / e.width + r.normal(0, 0.25), uniform(r, 0.25, 0.7)
        t = curve(u, v, u - e.mirror * length * np.cos(a), v + length * np.sin(a) * 0.7, r.normal(0, 0.15), 5)
        line(layer, e.pixels(t), int(r.integers(70, 230)), round(e.R * uniform(r, 0.015, 0.04)))
    mass = np.exp(-((e.v - (base + arch * ((e.u - e.mid) / e.width) ** 2 * 1.2)) / thick) ** 2) * (e.along < 1.4) * uniform(r, 0, 0.95)
    return over(im, np.maximum(share(layer), mass), colour * 1.2)


def in_front(r, e, im, bits, colour):
    """Hair, glasses, fingers, instruments, jewellery, and what lies beyond the face. Clears the truth of what they hide wholly."""
    S, R = e.S, e.R
    if chance(r, 0.1):
        layer = np.zeros((S, S), np.uint8)
        strands(r, layer, int(r.integers(2, 40)), 1, round(R * uniform(r, 0.02, 0.08)))
        if chance(r, 0.4):
            layer = blurred(layer, R * uniform(r, 0.02, 0.1))
        im = over(im, share(layer), vary(r, colour, 0.4))
    if chance(r, 0.14):
        im = glasses(r, e, im)
    if chance(r, 0.05):
        im = fingers(r, e, im, bits)
    if chance(r, 0.12 if R > 0.12 * S else 0.4):
        away = noise(r, S, 3) * 0.3
        a = uniform(r, 0, 6.28)
        yy, xx = np.mgrid[0:S, 0:S].astype(f4)
        away = away + ((xx - e.x) * np.cos(a) + (yy - e.y) * np.sin(a)) / R
        w = sigmoid((away - uniform(r, 1.3, 4)) * uniform(r, 3, 30))
        w = w * (1 - e.open * (w < 0.98))
        im = over(im, w, background(r, S))
        bits[w > 0.5] = 0
    if chance(r, 0.04):
        yy, xx = np.mgrid[0:S, 0:S].astype(f4)
        for _ in range(r.integers(1, 4)):  # metal balls
            x, y, q = uniform(r, 0, S), uniform(r, 0, S), R * uniform(r, 0.12, 0.35)
            if np.hypot(x - e.x, y - e.y) > 1.6 * R:
                shine = np.exp(-(((xx - x + q * 0.3) ** 2 + (yy - y + q * 0.3) ** 2) / (q * 0.5) ** 2))
                im = over(im, (np.hypot(xx - x, yy - y) < q).astype(f4), (0.2 + 0.9 * shine)[..., None])
    return im


def strands(r, layer, n, length, width):
    S = layer.shape[0]
    x0, y0, a0 = uniform(r, 0, S), uniform(r, 0, S), uniform(r, 0, 6.28)
    for _ in range(n):
        a, x, y, d = a0 + r.normal(0, 0.15), x0 + r.normal(0, S * 0.1), y0 + r.normal(0, S * 0.1), length * S
        ends = x - d * np.cos(a), y - d * np.sin(a), x + d * np.cos(a), y + d * np.sin(a)
        line(layer, curve(*ends, r.normal(0, 0.06)), int(r.integers(60, 255)), width)


def glasses(r, e, im):
    """A frame, a lens that tints and veils, streaks of coated glass."""
    S, R = e.S, e.R
    x, y = e.origin + r.normal(0, 0.6, 2) * R
    w, h, kind = R * uniform(r, 2.6, 5), R * uniform(r, 1.8, 3.5), r.random()
    lens = np.zeros((S, S), np.uint8)
    ellipse(lens, x, y, w, h, np.degrees(e.tilt), 255)
    lens = share(lens)
    if kind < 0.6:  # tinted or hazy
        im = over(im, lens * uniform(r, 0.1, 0.6), vary(r, np.ones(3, f4) * uniform(r, 0.02, 0.5), 0.15))
    if kind > 0.4:
        for _ in range(r.integers(1, 4)):
            a, d, width = r.normal(0.6, 0.6), r.normal(0, 0.8), uniform(r, 0.05, 0.6)
            band = np.exp(-np.abs((e.u * np.cos(a) + e.v * np.sin(a) - d) / width) ** uniform(r, 2, 6))
            band = band * step(-0.5, 1.0, noise(r, S, S / R * uniform(r, 0.5, 2))) if chance(r, 0.5) else band
            tint = pick(r, [(0.6, 1, 0.7), (0.6, 0.7, 1), (1, 0.7, 1), (1, 1, 1)])
            im = im + (lens * band * uniform(r, 0.05, 0.7))[..., None] * np.array(tint, f4)
    if chance(r, 0.6):
        frame = np.zeros((S, S), np.uint8)
        ellipse(frame, x, y, w, h, np.degrees(e.tilt), 255, max(1, R * uniform(r, 0.08, 0.5)))
        hidden = share(frame) * (1 - (e.inside & (e.rho < 1)) * (not chance(r, 0.3)))
        im = over(im, hidden, random_colour(r) * uniform(r, 0.05, 1))
    return im


def fingers(r, e, im, bits):
    """Fingertips or wire that hold the lids apart: beyond the opening's edge, over it by a little."""
    S, R = e.S, e.R
    for side in pick(r, [(-1,), (1,), (-1, 1)]):
        layer = np.zeros((S, S), np.uint8)
        u = uniform(r, -1, 1)
        root = e.pixels([[u, float(e.lid_at(u, side)) + side * uniform(r, -0.05, 0.5)]])[0]
        w, a = R * uniform(r, 0.35, 0.9), e.tilt + side * np.pi / 2 + r.normal(0, 0.4)
        tip = root + w * np.array([np.cos(a), np.sin(a)])
        if chance(r, 0.7):
            line(layer, curve(*tip, *(tip + 4 * R * np.array([np.cos(a), np.sin(a)])), r.normal(0, 0.1)), 255, min(2 * w, 250))
            colour = skin(r, S, vary(r, e.skin_base, 0.15), R) * (1 + 0.3 * fractal(r, S, 4, 2))[..., None]
        else:
            line(layer, curve(*tip, *(tip + 4 * R * np.array([np.cos(a), np.sin(a)])), r.normal(0, 0.1)), 255, max(1, 0.2 * w))
            colour = np.ones(3, f4) * uniform(r, 0.3, 1.1)
        cover = share(blurred(layer, max(0.5, R * 0.02)))
        im = over(im, cover, colour)
        bits[cover > 0.5] &= LIMBUS
    return im
