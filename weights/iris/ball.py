"""The eyeball between the lids: sclera, iris texture, pupil, and what the cornea mirrors."""
import cv2
import numpy as np

from field import (blurred, chance, curve, ellipse, f4, line, noise, over, pick, polygon, rgb, share, sigmoid, step, uniform, vary)

# (outer, around the pupil), and how often.
IRISES = [
    ((30, 17, 12), (44, 26, 16), 4), ((46, 27, 17), (70, 42, 24), 3.5), ((66, 38, 22), (92, 56, 28), 3), ((92, 54, 26), (128, 78, 36), 2.5),
    ((124, 74, 36), (160, 100, 46), 2), ((150, 96, 44), (176, 118, 56), 1), ((118, 98, 52), (150, 96, 40), 1.2), ((96, 100, 60), (150, 106, 50), 1.2),
    ((104, 118, 76), (158, 128, 66), 1.2), ((118, 132, 102), (150, 136, 84), 1), ((112, 126, 122), (140, 130, 100), 1),
    ((120, 130, 138), (150, 152, 146), 1.2), ((92, 120, 146), (150, 150, 130), 1.2), ((88, 128, 172), (140, 160, 175), 1.2),
    ((140, 172, 198), (176, 190, 196), 1), ((170, 196, 214), (190, 200, 200), 0.7), ((60, 84, 112), (100, 110, 110), 1)]
WEIGHTS = np.array([w for *_, w in IRISES]) / sum(w for *_, w in IRISES)
# The limbus is a passage, not a line. People draw it where the dark ends: here 35 % of the way from iris to white (log odds).
DRAWN = 0.64
SCLERA = [(236, 232, 228), (225, 216, 206), (214, 206, 204), (232, 220, 190), (222, 196, 188), (200, 205, 215), (190, 160, 120)]


def iris_colours(r):
    outer, inner, _ = pick(r, IRISES, WEIGHTS)
    outer, inner = vary(r, rgb(*outer), 0.12), vary(r, rgb(*inner), 0.12)
    if chance(r, 0.07):  # coloured lenses, photos painted over
        hue = np.uint8([[[r.integers(0, 180), r.integers(90, 230), r.integers(70, 230)]]])
        outer = rgb(*cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0])
        inner = vary(r, outer, 0.3)
    return outer, inner


def iris_texture(r, rows=40, columns=360):
    """rows x columns x 3: from the pupil's edge to the limbus, and round. Collarette, fibres, crypts, furrows, sectors."""
    outer, inner = iris_colours(r)
    depth = np.linspace(0, 1, rows, dtype=f4)[:, None]

    def around(down, across):
        a = r.standard_normal((max(2, down), max(3, across))).astype(f4)
        a = np.concatenate([a, a[:, :2]], 1)
        n = a.shape[1]
        return cv2.resize(a, (int(columns * n / (n - 2)), rows), interpolation=cv2.INTER_CUBIC)[:, :columns]

    collarette = uniform(r, 0.12, 0.5) + 0.05 * uniform(r, 0, 1.5) * around(1, 40) + 0.05 * around(1, 6)
    zone = sigmoid((collarette - depth) / uniform(r, 0.015, 0.15)) * uniform(r, 0, 1) * (not chance(r, 0.25))
    t = outer * (1 - zone[..., None]) + inner * zone[..., None]
    strength = uniform(r, 0, 1) ** 1.3
    fibres = 0.16 * around(3, 110) + 0.13 * around(4, 200) + 0.1 * around(2, 50) + 0.10 * around(3, 12) + 0.06 * around(14, 160)
    t = t * np.exp(strength * 1.15 * fibres)[..., None]
    t = t + (0.10 * strength * np.maximum(around(2, 140), 0) * uniform(r, 0, 1))[..., None]
    t = t * (1 + uniform(r, -0.15, 0.3) * np.exp(-((depth - collarette) / 0.05) ** 2))[..., None]
    if chance(r, 0.4):
        crypts = np.zeros((rows, columns), f4)
        for _ in range(r.integers(1, 14)):
            place = int(r.integers(0, columns)), int(rows * uniform(r, 0.2, 0.75))
            cv2.ellipse(crypts, place, (int(r.integers(2, 9)), int(r.integers(1, 5))), 0, 0, 360, uniform(r, 0.2, 0.6), -1)
        t = t * (1 - blurred(crypts, 1.0))[..., None]
    for _ in range(r.integers(0, 5) if chance(r, 0.4) else 0):
        ring = np.exp(-((depth - uniform(r, 0.5, 0.95) - 0.02 * around(1, 8)) / 0.02) ** 2) * (around(1, 5) > -0.3)
        t = t * (1 - uniform(r, 0.05, 0.25) * ring)[..., None]
    if chance(r, 0.15):
        other = vary(r, rgb(*pick(r, IRISES)[0]), 0.1)
        w = step(0.6, 1.2, around(1, 6) + 0.2 * around(3, 30))[..., None] * uniform(r, 0.3, 1)
        t = t * (1 - w) + other * w
    if chance(r, 0.5):
        t = t * float(np.exp(r.normal(-0.25, 0.4)))
    return np.clip(t, 0.005, 1.2).astype(f4)


def sclera(r, e):
    """S x S x 3: white, shaded as a ball, veins, red corners."""
    S, R = e.S, e.R
    white = vary(r, rgb(*pick(r, SCLERA)), 0.05)
    if chance(r, 0.35):
        white = white * uniform(r, 0.3, 0.85)
    ball = np.ones((S, S, 3), f4) * white
    size = uniform(r, 2.1, 2.7)
    lit = np.sqrt(np.maximum(1 - ((e.u - e.mid) ** 2 + (e.v * 0.9) ** 2) / size ** 2, 0))
    ball = shade_ball(r, ball, lit, e)
    if chance(r, 0.65):
        veins = np.zeros((S, S), np.uint8)
        for _ in range(r.integers(3, 22)):
            side = pick(r, [1, -1])
            u0, v0 = e.mid + side * uniform(r, 0.8, 1) * e.width, r.normal(0, 0.5)
            t = curve(u0, v0, u0 - side * uniform(r, 0.3, 1.3), v0 + r.normal(0, 0.35), r.normal(0, 0.12), 9)
            t[:, 1] += np.cumsum(r.normal(0, 0.03, 9))
            line(veins, e.pixels(t), int(r.integers(40, 200)), 1 if R < 50 or chance(r, 0.7) else 2)
        amount = share(blurred(veins, max(0.5, R * 0.012))) * uniform(r, 0.3, 1)
        ball = ball * (1 - amount[..., None] * np.array([0.25, 0.75, 0.7], f4))
    if chance(r, 0.7):  # caruncle
        at = e.mid + e.mirror * e.width * 0.93
        q = ((e.u - at) / uniform(r, 0.15, 0.32)) ** 2 + ((e.v - e.line - e.slope * (at - e.mid)) / uniform(r, 0.15, 0.3)) ** 2
        q = np.exp(-q)[..., None] * uniform(r, 0.4, 1)
        ball = ball * (1 - q) + vary(r, rgb(200, 120, 110), 0.12) * e.skin_base ** 0.3 * q
    return ball


def shade_ball(r, ball, lit, e):
    ball = ball * (1 - uniform(r, 0.05, 0.6) * (1 - lit))[..., None]
    ball = ball * np.exp(noise(r, e.S, max(2, e.S / e.R), 3) * 0.03) * (1 + uniform(r, -0.3, 0.3) * (e.u / 2.5))[..., None]
    red = step(uniform(r, 0.3, 0.8) * e.width, e.width * 1.05, np.abs(e.u - e.mid)) * uniform(r, 0, 0.6)
    red = np.maximum(red, uniform(r, 0, 0.4) * np.exp(-np.maximum(e.depth / e.R, 0) / 0.12))[..., None]
    return ball * (1 - red * np.array([0.1, 0.45, 0.45], f4))


def iris(r, e):
    """S x S x 3 iris with pupil (beyond the limbus it goes on), and how far each px belongs to it, 0..1."""
    R, tex = e.R, iris_texture(r)
    rows, columns = tex.shape[:2]
    from_pupil, from_limbus = np.maximum(e.pupil_rho - e.pupil, 0), np.maximum(1 - e.rho, 0)
    t = from_pupil / (from_pupil + from_limbus + 1e-4)
    angle = np.arctan2(e.pupil_v, e.pupil_u) / (2 * np.pi) + 0.5
    at = ((angle + uniform(r, 0, 0.01) * np.sin(t * 9)) * (columns - 1)).astype(f4)
    im = cv2.remap(tex, at, (t * (rows - 1)).astype(f4), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ring_width, ring = uniform(r, 0.04, 0.3), uniform(r, 0, 0.85) if chance(r, 0.8) else 0
    im = im * (1 - ring * step(1 - ring_width, 1.0, e.rho))[..., None]
    a = uniform(r, 0, 6.28)
    im = im * (1 + uniform(r, 0, 0.45) * (e.iris_u * np.cos(a) + e.iris_v * np.sin(a)))[..., None]
    soft = max(0.5, R * uniform(r, 0.004, 0.045))
    hole = sigmoid((e.pupil - e.pupil_rho) * R / soft * 1.6)[..., None]
    im = im * (1 - hole) + pupil_colour(r) * hole
    if chance(r, 0.1):  # a pale ring of age just inside the limbus
        w, at = uniform(r, 0.03, 0.1), uniform(r, 0.86, 0.97)
        im = over(im, np.exp(-((e.rho - at) / w) ** 2) * uniform(r, 0.1, 0.7), rgb(190, 190, 185) * uniform(r, 0.5, 1))
    edge = max(0.5, R * (uniform(r, 0.005, 0.04) if chance(r, 0.6) else uniform(r, 0.04, 0.11)))
    return im, sigmoid((1 - e.rho) * R / edge * 1.6 + DRAWN)


def pupil_colour(r):
    """Nearly black; hazy lenses are bluish grey, a flash near the lens makes it red."""
    k = r.random()
    if k < 0.18:
        return np.array([0.08, 0.10, 0.12], f4) * uniform(r, 0.5, 3.2)
    if k < 0.22:
        return np.array([0.5, 0.1, 0.05], f4) * uniform(r, 0.3, 1.2)
    if k < 0.25:
        return np.ones(3, f4) * uniform(r, 0.2, 0.5)
    return np.ones(3, f4) * uniform(r, 0, 0.05)


def eyeball(r, e):
    ball = sclera(r, e)
    im, inside = iris(r, e)
    if chance(r, 0.3):  # a grey haze around the limbus
        ball = ball * (1 - uniform(r, 0.05, 0.35) * np.exp(-np.maximum(e.rho - 1, 0) / uniform(r, 0.05, 0.2)))[..., None]
    ball = ball * (1 - inside[..., None]) + im * inside[..., None]
    ball = lid_shadow(r, e, ball)
    return mirrored(r, e, ball)


def lid_shadow(r, e, ball):
    """The upper lid's shadow, streaked by its lashes; a little below; the side away from the light."""
    width = uniform(r, 0.05, 0.55)
    if chance(r, 0.4):
        lashes = noise(r, e.S, e.S / e.R * uniform(r, 5, 14), aspect=0.05)
        width = width * np.clip(1 + uniform(r, 0.2, 0.7) * lashes, 0.25, 3)
    ball = ball * (1 - uniform(r, 0.05, 0.92) * np.exp(-np.maximum(e.v - e.top, 0) / width))[..., None]
    ball = ball * (1 - uniform(r, 0, 0.3) * np.exp(-np.maximum(e.bottom - e.v, 0) / 0.12))[..., None]
    if chance(r, 0.55):
        side = (e.u - e.mid) / e.width * pick(r, [1, -1])
        side = np.abs(side) if chance(r, 0.5) else side
        dark = uniform(r, 0.1, 0.9) * step(uniform(r, 0.2, 0.6), uniform(r, 0.85, 1.1), side)
        ball = ball * (1 - dark)[..., None] ** np.array([0.85, 1, 1], f4)
    return ball


def mirrored(r, e, ball):
    """Veils, surroundings and lamps on the cornea; small lights on the wet white."""
    S, R = e.S, e.R
    cornea = sigmoid((1.02 - e.rho) * R / 2)
    if chance(r, 0.35):
        ball = ball + (cornea * uniform(r, 0.01, 0.16))[..., None] * vary(r, np.array([0.8, 0.9, 1], f4), 0.1)
    if chance(r, 0.12):  # a broad lamp that lies over limbus and white
        a, d, w = uniform(r, 0, 6.28), uniform(r, 0.6, 1.1), uniform(r, 0.12, 0.5)
        gx, gy = np.cos(a), np.sin(a)
        along, across = (e.iris_u * gx + e.iris_v * gy - d) / w, (-e.iris_u * gy + e.iris_v * gx) / uniform(r, 0.4, 1.3)
        glare = np.exp(-(along ** 2 + across ** 2) ** uniform(r, 1, 3)) * uniform(r, 0.2, 0.95)
        if chance(r, 0.6):
            glare = glare * np.clip(0.7 + 0.4 * noise(r, S, S / R * uniform(r, 1, 4)), 0, 1.2)
        ball = ball + glare[..., None] * vary(r, np.ones(3, f4), 0.08)
    if chance(r, 0.2):
        clouds = noise(r, S, S / R * uniform(r, 1.0, 4)) + e.iris_u * r.normal(0, 0.5) + e.iris_v * r.normal(0, 0.8)
        clouds = step(uniform(r, -0.2, 0.5), uniform(r, 0.6, 1.4), clouds)
        ball = ball + (cornea * clouds * uniform(r, 0.05, 0.5))[..., None] * vary(r, np.array([0.85, 0.95, 1], f4), 0.15)
    if chance(r, 0.3):
        ball = surroundings(r, e, ball, cornea)
    lamps = glints(r, e)
    if chance(r, 0.5):
        for _ in range(r.integers(1, 5)):
            a, w = uniform(r, -1, 1) * e.width * 0.9, max(0.4, R * uniform(r, 0.01, 0.05))
            b = e.lid_at(a, 1) - 0.04 if chance(r, 0.6) else uniform(r, -0.3, 0.5)
            x, y = e.pixels(np.array([[a, b]]))[0]
            ellipse(lamps, x, y, w * uniform(r, 1, 4), w, np.degrees(e.tilt) + r.normal(0, 15), uniform(r, 0.2, 1))
    return ball + lamps[..., None] * vary(r, np.ones(3, f4), 0.05)


def surroundings(r, e, ball, cornea, size=96):
    """What the cornea mirrors of a room or a street: a bright sky or window, cut by roofs, trees, bars and whoever holds the camera."""
    scene = np.zeros((size, size), f4)
    horizon = size * uniform(r, 0.3, 0.75)
    if chance(r, 0.55):  # the sky above a skyline
        scene[:int(horizon)] = uniform(r, 0.4, 1)
        x = 0.0
        while x < size:
            w = size * uniform(r, 0.03, 0.25)
            polygon(scene, [[x, size], [x, horizon - size * r.normal(0, 0.12)], [x + w, horizon - size * r.normal(0, 0.12)], [x + w, size]], 0.0)
            x += w
    else:  # windows
        for _ in range(r.integers(1, 4)):
            x, y, w, h = (size * uniform(r, *q) for q in ((0.1, 0.9), (0.1, 0.8), (0.08, 0.35), (0.1, 0.4)))
            lean = r.normal(0, 0.05) * size
            polygon(scene, [[x - w, y - h], [x + w, y - h], [x + w + lean, y + h], [x - w + lean, y + h]], uniform(r, 0.4, 1))
            for k in range(r.integers(0, 4)):
                bar = x - w + 2 * w * (k + 1) / 4
                line(scene, [[bar, y - h], [bar + lean, y + h]], 0.0, size * 0.02)
    if chance(r, 0.5):  # a head and shoulders
        x, y, a = size * uniform(r, 0.25, 0.75), size * uniform(r, 0.4, 0.8), size * uniform(r, 0.05, 0.14)
        ellipse(scene, x, y, a, a * 1.2, 0, 0.0)
        ellipse(scene, x, y + a * 3, a * 2.2, a * 2.2, 0, 0.0)
    scene = blurred(scene, uniform(r, 0.4, 2.5)) * np.clip(1 + 0.3 * noise(r, size, r.integers(4, 30)), 0, 2)
    spread = uniform(r, 0.8, 1.5)  # a convex mirror: the edge of the cornea shows more
    bulge = size * 0.5 * spread * (1 + 0.25 * e.rho)
    seen = cv2.remap(scene, (size / 2 + e.iris_u * bulge).astype(f4), (size / 2 + e.iris_v * bulge).astype(f4), cv2.INTER_LINEAR)
    tint = vary(r, np.array([0.85, 0.95, 1], f4), 0.12)
    return ball + (cornea * seen * uniform(r, 0.08, 0.9))[..., None] * tint


def glints(r, e):
    """S x S: lamps on the cornea, 0 to about 1.6."""
    S, R = e.S, e.R
    layer = np.zeros((S, S), f4)

    def place(spread=0.45):
        while True:
            d = r.normal(0, spread, 2)
            if np.hypot(*d) < 0.95:
                return e.x + d[0] * R, e.y + d[1] * R

    kinds = ["spot", "window", "ring", "tube", "grid", "patch", "shape"]
    for _ in range(pick(r, [0, 1, 2, 3], [0.12, 0.55, 0.23, 0.1])):
        kind, light = pick(r, kinds, [0.4, 0.14, 0.09, 0.1, 0.07, 0.14, 0.06]), uniform(r, 0.35, 1.6)
        x, y = place()
        if kind == "spot":
            a = R * uniform(r, 0.025, 0.16)
            ellipse(layer, x, y, a, a * uniform(r, 0.5, 1), uniform(r, 0, 180), light)
        elif kind == "window":
            window(r, layer, x, y, R, light)
        elif kind == "ring":
            x, y = place(0.15)
            a = R * uniform(r, 0.15, 0.65)
            ellipse(layer, x, y, a, a * uniform(r, 0.85, 1), 0, light, max(1, R * uniform(r, 0.03, 0.15)))
        elif kind == "tube":
            a, half = r.normal(0, 0.6) + (1.57 if chance(r, 0.4) else 0), R * uniform(r, 0.3, 1.1)
            ends = x - half * np.cos(a), y - half * np.sin(a), x + half * np.cos(a), y + half * np.sin(a)
            tube = np.zeros((S, S), np.uint8)
            line(tube, curve(*ends, r.normal(0, 0.2)), 255, R * uniform(r, 0.02, 0.14))
            layer = np.maximum(layer, share(tube) * light)
        elif kind == "grid":
            gap, a = R * uniform(r, 0.08, 0.22), R * uniform(r, 0.02, 0.06)
            for k in range(r.integers(2, 7)):
                ellipse(layer, x + (k % 3) * gap, y + (k // 3) * gap, a, a, 0, light)
        elif kind == "patch":
            before = layer.copy()
            ellipse(layer, x, y, R * uniform(r, 0.1, 0.45), R * uniform(r, 0.08, 0.4), uniform(r, 0, 180), light)
            layer = before + (layer - before) * np.clip(0.6 + 0.5 * noise(r, S, S / R * uniform(r, 2, 5)), 0, 1)
        else:
            corners = np.stack(place(0.3)) + r.normal(0, R * 0.25, (r.integers(3, 6), 2))
            cv2.fillPoly(layer, [cv2.convexHull(np.round(corners * 16).astype(np.int32))], light, cv2.LINE_AA, 4)
    soft = R * uniform(r, 0.004, 0.03)
    if soft > 0.35:
        layer = blurred(layer, soft)
    if chance(r, 0.3):
        layer = layer + blurred(layer, max(0.5, R * uniform(r, 0.08, 0.3))) * uniform(r, 0.1, 0.5)
    return layer


def window(r, layer, x, y, R, light):
    w, h, a, shear = R * uniform(r, 0.06, 0.3), R * uniform(r, 0.06, 0.35), r.normal(0, 0.2), R * r.normal(0, 0.06)
    turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])

    def box(x, y, w, h, value, shear=0.0):
        polygon(layer, np.array([[-w, -h], [w, -h], [w + shear, h], [-w + shear, h]]) @ turn + (x, y), value)

    box(x, y, w, h, light, shear)
    if chance(r, 0.5):
        for k in range(r.integers(1, 3)):
            box(x + (k - 0.5) * w * 0.6, y, max(0.4, w * 0.06), h * 1.1, uniform(r, 0, 0.3))
        box(x, y + r.normal(0, 0.2) * h, w * 1.1, max(0.4, h * 0.07), uniform(r, 0, 0.3))
