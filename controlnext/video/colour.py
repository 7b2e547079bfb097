"""Colours of decoded frames: BT.709 for untagged HD, wide gamuts and HDR (PQ, HLG) brought to sRGB."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from controlnext.video.ffmpeg import filters

_HD_HEIGHT = 720  # stored lines from which untagged video is BT.709, as in Chromium
_FORMAT = re.compile(r", ([a-z0-9]+)(?:\(([^)]*)\))?, ")  # pixel format, and in brackets its range and colour space
_STORED = re.compile(r", (\d+)x(\d+)\b")
_HDR = {"smpte2084", "arib-std-b67"}
_NARROW = {"bt709", "smpte170m", "bt470bg", "smpte240m", "unknown", "reserved"}
_NOT_COLOUR = {"tv", "pc", "progressive"}
_SDR_NITS = 150  # brightness of white: with it grey and colours are those that Chromium shows


@dataclass(frozen=True)
class VideoColour:
    """Colour space of a video stream, in ffmpeg's names; `unknown` where the file does not state it.

    Attributes:
        matrix: of YUV.
        primaries: its gamut.
        transfer: its curve.
        height: stored lines.
    """

    matrix: str = "unknown"
    primaries: str = "unknown"
    transfer: str = "unknown"
    height: int = 0

    @property
    def is_hdr(self) -> bool:
        """Whether it is PQ or HLG."""
        return self.transfer in _HDR

    @property
    def first(self) -> list[str]:
        """Filters that come before all others."""
        if self.matrix == "unknown" and self.height >= _HD_HEIGHT:
            return ["setparams=colorspace=bt709"]
        return []

    @property
    def last(self) -> list[str]:
        """Filters that come after scaling; none where this build of ffmpeg lacks them."""
        wide = self.primaries not in _NARROW
        if not (wide or self.is_hdr) or not can_convert():
            return []
        matrix = "bt709" if self.matrix in ("unknown", "gbr") else self.matrix
        gamut = self.primaries if wide else "bt2020" if self.is_hdr else "bt709"
        given = f"pin={gamut}:min={matrix}"
        if not self.is_hdr:
            return ["format=yuv444p10le", f"zscale={given}:tin=bt709:p=bt709:t=bt709:m=gbr:r=full", "format=gbrp"]
        return [
            "format=yuv444p10le",
            f"zscale={given}:tin={self.transfer}:t=linear:npl={_SDR_NITS}",
            "format=gbrpf32le",
            "zscale=p=bt709",
            "tonemap=tonemap=hable:desat=0",
            "zscale=t=iec61966-2-1:m=gbr:r=full",
            "format=gbrp",
        ]


def colour_of(stream: str) -> VideoColour:
    """Read the colour space from ffmpeg's line about a video stream."""
    stored, pixels = _STORED.search(stream), _FORMAT.search(stream)
    height = int(stored[2]) if stored else 0
    if pixels is None:
        return VideoColour(height=height)
    said = [word for word in (pixels[2] or "").split(", ") if " " not in word and word not in _NOT_COLOUR]
    if not any(said):
        # JPEG's own range comes with BT.601, and pictures of other formats are no YUV
        return VideoColour(height=height if pixels[1].startswith(("yuv4", "nv", "p0")) else 0)
    names = said[0].split("/")
    return VideoColour(*(names if len(names) == 3 else names * 3), height=height)


@cache
def can_convert() -> bool:
    """Return whether this build of ffmpeg has the filters `zscale` and `tonemap`."""
    return {"zscale", "tonemap"} <= filters()
