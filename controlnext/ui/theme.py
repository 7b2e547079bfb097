"""Theme and style sheet of the page.

Gradio 6 takes the look at `launch()` and not at `Blocks()`, so `launch_options()` is what `app.py` and the tests pass
on.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes

from controlnext.assets import PAGE
from controlnext.ui.words import script, translations

TITLE = "ControlNeXt Studio"

INK = colors.Color(
    name="ink",
    c50="#f7f8f8",
    c100="#eff1f2",
    c200="#e1e5e7",
    c300="#ccd3d6",
    c400="#98a3a9",
    c500="#5c686f",
    c600="#4e5960",
    c700="#374047",
    c800="#22292e",
    c900="#171c20",
    c950="#0f1316",
)
"""A grey with a breath of blue: it leaves the colours to the pictures. Text in 500 has a contrast of at least 4.5 : 1 on 50 to 200."""

PINE = colors.Color(
    name="pine",
    c50="#eef8f6",
    c100="#d6efeb",
    c200="#aedfd8",
    c300="#7cc9bf",
    c400="#46aba0",
    c500="#1d7d74",
    c600="#146f67",
    c700="#115a54",
    c800="#104845",
    c900="#0f3b39",
    c950="#062322",
)
"""The one accent; white text on 600 has a contrast of 5.9 : 1."""


def studio_theme() -> gr.themes.Base:
    """Return the theme; its fonts are files that Gradio itself serves, then the fonts of the system.

    The semi-bold file of IBM Plex Sans that comes with Gradio lacks most letters, so bold stands in for it.
    """
    theme = gr.themes.Base(
        primary_hue=PINE,
        secondary_hue=PINE,
        neutral_hue=INK,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_md,
        text_size=sizes.text_md,
        font=[fonts.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[fonts.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "Consolas", "monospace"],
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_800",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="*neutral_950",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_800",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_shadow="none",
        block_radius="10px",
        block_padding="10px 12px",
        block_label_background_fill="white",
        block_label_background_fill_dark="*neutral_900",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_400",
        block_label_text_size="*text_xs",
        block_label_border_width="0px",
        block_label_shadow="none",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="600",
        block_title_text_size="*text_sm",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        block_info_text_size="*text_xs",
        layout_gap="10px",
        form_gap_width="0px",
        input_background_fill="white",
        input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_radius="8px",
        input_shadow="none",
        input_shadow_focus="0 0 0 3px *primary_100",
        input_shadow_focus_dark="0 0 0 3px *primary_900",
        input_text_size="*text_md",
        checkbox_label_background_fill="white",
        checkbox_label_background_fill_dark="*neutral_900",
        checkbox_label_text_size="*text_sm",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_500",
        checkbox_border_color_selected="*primary_600",
        checkbox_border_color_selected_dark="*primary_500",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        loader_color="*primary_600",
        loader_color_dark="*primary_400",
        button_large_radius="9px",
        button_medium_radius="8px",
        button_small_radius="8px",
        button_large_text_size="*text_md",
        button_medium_text_size="*text_sm",
        button_transition="background-color 0.12s ease, border-color 0.12s ease, color 0.12s ease",
        button_border_width="1px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_border_color="*primary_600",
        button_primary_border_color_hover="*primary_700",
        button_primary_border_color_dark="*primary_500",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_secondary_border_color_hover="*neutral_400",
        button_secondary_text_color="*neutral_700",
        button_secondary_text_color_dark="*neutral_100",
        button_cancel_background_fill="white",
        button_cancel_background_fill_hover="#fdf0ee",
        button_cancel_background_fill_dark="*neutral_800",
        button_cancel_background_fill_hover_dark="#4a1d18",
        button_cancel_border_color="#e0a49c",
        button_cancel_border_color_hover="#c9665a",
        button_cancel_border_color_dark="#7d362d",
        button_cancel_text_color="#a93a2d",
        button_cancel_text_color_dark="#f0a79d",
        button_cancel_text_color_hover="#8e2e23",
        button_cancel_text_color_hover_dark="#ffd6d0",
        table_odd_background_fill="*neutral_50",
        table_odd_background_fill_dark="*neutral_900",
    )


@cache
def style() -> str:
    """Return the page's small style sheet."""
    return (PAGE / "style.css").read_text(encoding="utf-8")


@cache
def keys() -> str:
    """Return the script of the page's keyboard shortcuts."""
    return (PAGE / "keys.js").read_text(encoding="utf-8")


@cache
def quick_status() -> str:
    """Return the script that spares the page the loading status of its components, which no event of it shows."""
    return (PAGE / "status.js").read_text(encoding="utf-8")


def launch_options() -> dict[str, Any]:
    """Return what the page adds to `Blocks.launch()`: theme, css, keys, words, icon, a short footer, and no analytics or run history."""
    return {
        "theme": studio_theme(),
        "css": style(),
        "js": f"() => {{ {' '.join(f'({one.strip()})();' for one in (quick_status(), keys(), script()))} }}",
        "i18n": translations(),
        "favicon_path": PAGE / "icon.png",
        "footer_links": ["api", "settings"],
        "run_history": False,
        "ssr_mode": False,
        "enable_monitoring": False,
        "show_error": False,
    }
