"""Ray casting of solids: which one each pixel shows, and how far away it is.

One kernel serves two ways of calling it: on a CPU each solid in its own window of the picture, on a GPU all pictures of a batch at
once. Camera space has x to the right, y up and z forward; the ray of a pixel is (X, Y, 1), so that the distance along it is depth.
The formulas for round cones follow from the quadratic of a cone that touches both spheres.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from controlnext.starter.scenes.solids import BALL, BOX, Solids

FAR = 1e4
"""Depth in metres of rays that hit nothing."""

NEAR = 0.08
"""Near plane in metres."""


@dataclass(frozen=True)
class Lens:
    """A camera at `eye` looking at `target`, (3,) metres; `focal` is its focal length in half picture heights."""

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    focal: float
    roll: float = 0.0

    def axes(self) -> np.ndarray:
        """Return right, up and forward as the rows of a (3, 3) matrix."""
        eye, target = np.array(self.eye), np.array(self.target)
        forward = (target - eye) / np.linalg.norm(target - eye)
        right = np.cross(forward, [0, 1.0, 0])
        right /= np.linalg.norm(right)
        up = np.cross(right, forward)
        c, s = np.cos(self.roll), np.sin(self.roll)
        return np.stack([c * right + s * up, c * up - s * right, forward])

    def project(self, points: np.ndarray, height: int, width: int) -> np.ndarray:
        """Project (n, 3) points in metres to (n, 3): x and y in pixels of a height x width picture, depth in metres."""
        local = (np.asarray(points) - np.array(self.eye)) @ self.axes().T
        depth = np.maximum(local[:, 2], 1e-3)
        scale = self.focal * height / 2
        return np.stack(
            [local[:, 0] / depth * scale + width / 2, height / 2 - local[:, 1] / depth * scale, local[:, 2]], axis=1
        )

    def rays(self, height: int, width: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Return X (width,) and Y (height,) of the pixels' rays."""
        scale = self.focal * height / 2
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5 - width / 2) / scale
        y = (height / 2 - torch.arange(height, dtype=torch.float32, device=device) - 0.5) / scale
        return x, y


@dataclass(frozen=True)
class Seen:
    """Solids as a camera sees them, a row each.

    `toward` (n, 3, 3) takes a ray to the solid's frame, `start` (n, 3) is the eye in it; `form` (n, 3) holds length and radii;
    `cuts` (n, 9) the columns of `SolidCut` in local units; `kinds` (n,); `windows` (n, 4) rows and columns of the picture that can show
    it: top, bottom, left, right.
    """

    kinds: np.ndarray
    toward: np.ndarray
    start: np.ndarray
    form: np.ndarray
    cuts: np.ndarray
    windows: np.ndarray


def look_at(solids: Solids, lens: Lens, height: int, width: int) -> Seen:
    """Take solids to a camera; solids outside the picture get an empty window."""
    axes, eye = lens.axes(), np.array(lens.eye)
    matrix = np.array(solids.matrix)
    corners = solids.corners()
    placed = lens.project(corners.reshape(-1, 3), height, width).reshape(len(solids), 8, 3)
    low, high = np.floor(placed[..., :2].min(1)).astype(int), np.ceil(placed[..., :2].max(1)).astype(int) + 1
    crossing = placed[..., 2].min(1) < NEAR
    behind = placed[..., 2].max(1) < NEAR
    low[crossing], high[crossing] = 0, (width, height)
    low, high = np.maximum(low, 0), np.minimum(high, (width, height))
    windows = np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], 1)
    windows[behind | (high <= low).any(1)] = 0
    size = np.array(solids.size)
    cuts = np.array([(*c.normal, c.offset, *c[2:]) for c in solids.cut])
    cuts[:, :3] *= size
    return Seen(
        np.array(solids.kind),
        (matrix @ axes.T),
        np.einsum("nij,nj->ni", matrix, eye - np.array(solids.origin)),
        np.column_stack([solids.length, solids.radii]),
        cuts,
        windows,
    )


def _dot(a: list, b: list):  # noqa: ANN202 - floats or tensors alike
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _keep(cut: list, at: list[Tensor], size: list, t: Tensor) -> Tensor:
    """Send hits that a cut leaves out to `FAR`. `at` are local coordinates."""
    kept = t
    if cut[3] > -0.99 or cut[0] or cut[1] or cut[2]:
        kept = torch.where(_dot(cut[:3], at) >= cut[3], kept, FAR)
    if cut[4] > 0:
        x, y = (at[0] * size[0] - cut[6]) / cut[4], (at[1] * size[1] - cut[7]) / cut[5]
        kept = torch.where((x * x + y * y < 1) & (at[2] * size[2] > cut[8]), FAR, kept)
    return kept


def hit_ball(d: list[Tensor], o: list, radius: float) -> Tensor:
    """Return the depth at which rays (three tensors) from `o` meet a ball, `FAR` where they miss."""
    a, b = d[0] * d[0] + d[1] * d[1] + d[2] * d[2], d[0] * o[0] + d[1] * o[1] + d[2] * o[2]
    disc = b * b - a * (_dot(o, o) - radius * radius)
    t = (-b - disc.clamp_min(0).sqrt()) / a
    return torch.where((disc > 0) & (t > NEAR), t, FAR)


def hit_cone(d: list[Tensor], o: list, length: float, ra: float, rb: float) -> Tensor:
    """Return the depth at which rays meet a round cone along +y, `FAR` where they miss."""
    s = (ra - rb) / length
    c2 = 1 - s * s
    q = d[0] * d[0] + d[2] * d[2]
    d1 = d[1] * d[1]
    left = ra - s * o[1]
    flat = d[0] * o[0] + d[2] * o[2]
    a = c2 * q - (s * s) * d1
    b = c2 * flat + (s * left) * d[1]
    disc = b * b - a * (c2 * (o[0] * o[0] + o[2] * o[2]) - left * left)
    t = (-b - disc.clamp_min(0).sqrt()) / a
    y = o[1] + t * d[1] - s * ra
    best = torch.where((disc > 0) & (y >= 0) & (y <= length * c2) & (t > NEAR), t, FAR)
    a = q + d1
    for radius, end in ((ra, 0.0), (rb, length)):
        oy = o[1] - end
        b = flat + d[1] * oy
        disc = b * b - a * (o[0] * o[0] + oy * oy + o[2] * o[2] - radius * radius)
        t = (-b - disc.clamp_min(0).sqrt()) / a
        best = torch.where((disc > 0) & (t > NEAR) & (t < best), t, best)
    return best


def hit_box(d: list[Tensor], o: list) -> Tensor:
    """Return the depth at which rays meet the cube [-1, 1]^3, `FAR` where they miss; from inside, where they leave it."""
    enter, leave = None, None
    for k in range(3):
        inverse = 1 / torch.where(d[k].abs() < 1e-9, 1e-9, d[k])
        middle, half = -o[k] * inverse, inverse.abs()
        enter = middle - half if enter is None else torch.maximum(enter, middle - half)
        leave = middle + half if leave is None else torch.minimum(leave, middle + half)
    t = torch.where(enter > NEAR, enter, leave)
    return torch.where((enter < leave) & (t > NEAR), t, FAR)


def cast_windows(seen: Seen, size: np.ndarray, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cast on a CPU, solid by solid.

    Args:
        seen: Solids as the camera sees them.
        size: (n, 3) metres a unit of each solid's frame.
        x: (W,) of the rays.
        y: (H,) of the rays.

    Returns:
        Depth in metres (H, W) float32, `FAR` where nothing is, and the solid's index (H, W) int64, -1 where none is.
    """
    depth = torch.full((len(y), len(x)), FAR)
    owner = torch.full((len(y), len(x)), -1)
    toward, start, form = seen.toward.tolist(), seen.start.tolist(), seen.form.tolist()
    cuts, sizes = seen.cuts.tolist(), size.tolist()
    for i in np.nonzero(seen.windows[:, 1] > seen.windows[:, 0])[0].tolist():
        top, bottom, left, right = seen.windows[i].tolist()
        xs, ys, m, o = x[left:right], y[top:bottom, None], toward[i], start[i]
        d = [m[k][0] * xs + (m[k][1] * ys + m[k][2]) for k in range(3)]
        if seen.kinds[i] == BALL:
            t = hit_ball(d, o, form[i][1])
        elif seen.kinds[i] == BOX:
            t = hit_box(d, o)
        else:
            t = hit_cone(d, o, *form[i])
        if cuts[i][3] > -0.99 or cuts[i][4] > 0:
            t = _keep(cuts[i], [o[k] + t * d[k] for k in range(3)], sizes[i], t)
        window = depth[top:bottom, left:right]
        nearer = t < window
        torch.where(nearer, t, window, out=window)
        owner[top:bottom, left:right].masked_fill_(nearer, i)
    return depth, owner
