"""A canvas with one primitive, the shaded and patterned tube; bodies consist of tubes."""
from __future__ import annotations

__all__ = ["Canvas"]

import math
from collections.abc import Sequence

import numpy as np

from torchreid_nas.data.synthetic.person import Material


class Canvas:
    """Draws onto ``image`` (float32, (H, W, C), in place).

    Edges are anti-aliased analytically: the coverage of a pixel is its signed
    distance from the outline, clipped to one pixel. That costs a quarter of
    rendering at twice the size and looks the same.

    Args:
        image: background, drawn over; C = 3 for visible, 1 for infrared.
        scale: pixels per body height.
        light: horizontal direction of the light, sine of its angle, in [-1, 1].
        shading: how much darker the rim of a tube is than its middle, in [0, 1].
        contrast: of the patterns.
    """

    def __init__(
        self, image: np.ndarray, scale: float, light: float = 0.0, shading: float = 0.4, contrast: float = 1.0
    ) -> None:
        self.image = image
        self.scale = scale
        self.spectrum = "visible" if image.shape[2] == 3 else "infrared"
        self.light = light
        self.front = math.sqrt(1.0 - light * light)
        self.shading = shading
        self.contrast = contrast
        self._rows = np.arange(image.shape[0], dtype=np.float32)[:, None]
        self._columns = np.arange(image.shape[1], dtype=np.float32)[None, :]

    def tube(
        self,
        start: Sequence[float],
        end: Sequence[float],
        stations: Sequence[float],
        widths: Sequence[float],
        material: Material,
        *,
        turn: float = 0.0,
        begin: float = 0.0,
        ends: str = "cut",
        folds: float = 0.0,
    ) -> None:
        """Draw a body of revolution between two points.

        Args:
            start: (x, y) of one end of the axis, in pixels.
            end: (x, y) of the other end of the axis, in pixels.
            stations: positions along the axis from 0 to 1, increasing.
            widths: half width in body heights at each station.
            material: of the surface. The pattern runs along and around the tube.
            turn: angle in radians by which the body faces away from the viewer.
            begin: position of the pattern at ``start``, in body heights.
            ends: ``"cut"`` straight, ``"round"`` as half circles, or ``"socket"``: round
                at the start and cut at the end, as a short sleeve.
            folds: phase of faint creases; 0 for a smooth surface.
        """
        (ax, ay), (bx, by) = start, end
        length = math.hypot(bx - ax, by - ay) + 1e-6
        # A point becomes a ball, which needs an axis; every axis gives the same ball.
        ux, uy = ((bx - ax) / length, (by - ay) / length) if length > 1e-3 else (0.0, 1.0)
        reach = max(widths) * self.scale + 1.0
        height, width = self.image.shape[:2]
        left, right = max(int(min(ax, bx) - reach), 0), min(int(max(ax, bx) + reach) + 2, width)
        top, bottom = max(int(min(ay, by) - reach), 0), min(int(max(ay, by) + reach) + 2, height)
        if left >= right or top >= bottom:
            return
        x, y = self._columns[:, left:right] - ax, self._rows[top:bottom] - ay
        along = x * ux + y * uy
        across = y * ux - x * uy
        # A tube that hangs down shows its pattern from left to right.
        across = -across if uy > 0 else across
        inside = np.clip(along, 0.0, length)
        half = np.interp(inside, np.multiply(stations, length), np.multiply(widths, self.scale)).astype(np.float32)
        beyond = np.abs(across) if ends == "cut" else np.hypot(along - inside, across)
        cover = np.clip(half + 0.5 - beyond, 0.0, 1.0)
        if ends == "cut":
            cover *= np.clip(along + 0.5, 0.0, 1.0)
        if ends != "round":
            cover *= np.clip(length + 0.5 - along, 0.0, 1.0)
        lateral = np.clip(across / np.maximum(half, 0.5), -1.0, 1.0)
        shade = np.sqrt(1.0 - lateral * lateral) * self.front + lateral * self.light
        shade = 1.0 - self.shading * (1.0 - shade)
        if folds:
            shade *= 1.0 + 0.22 * self.shading * np.sin(inside * (40.0 / self.scale) + 3.0 * lateral + folds)
        ground, figure = material.tones(self.spectrum, self.contrast)
        if material.pattern == "plain":
            colour = ground * shade[..., None]
        else:
            radius = float(np.mean(widths))
            around = np.arcsin(lateral) - turn
            mask = self._mask(material, inside / self.scale + begin, around, radius)
            colour = (ground + mask[..., None] * (figure - ground)) * shade[..., None]
        region = self.image[top:bottom, left:right]
        region += cover[..., None] * (colour - region)

    def _mask(self, material: Material, along: np.ndarray, around: np.ndarray, radius: float) -> np.ndarray:
        """Return the share of the figure per pixel; ``along`` in body heights, ``around`` in radians from the front."""
        if material.pattern == "horizontal":
            return self._stripes(along, material.period)
        if material.pattern == "vertical":
            return self._stripes(around * radius, material.period)
        if material.pattern == "checks":
            # Gingham: the figure is full where the two stripes cross.
            return (self._stripes(along, material.period) + self._stripes(around * radius, material.period)) / 2
        if material.pattern == "yoke":
            return np.clip((material.centre - along) * self.scale + 0.5, 0.0, 1.0)
        edge = np.clip((material.extent - np.abs(along - material.centre)) * self.scale + 0.5, 0.0, 1.0)
        if material.pattern == "print":
            # On chest and back: angles that differ by half a turn are equal.
            sideways = np.abs((around + math.pi / 2) % math.pi - math.pi / 2) * radius
            edge = edge * np.clip((0.9 * radius - sideways) * self.scale + 0.5, 0.0, 1.0)
        return edge

    def _stripes(self, position: np.ndarray, period: float) -> np.ndarray:
        # The slope is one pixel per edge, so fine stripes fade instead of aliasing.
        sharpness = min(period * self.scale / math.pi, 6.0)
        return 0.5 + 0.5 * np.clip(sharpness * np.sin((2 * math.pi / period) * position), -1.0, 1.0)
