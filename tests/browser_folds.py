"""Folds of the page opened as a person opens them, and the tour left out."""

TOURED = "localStorage.setItem('controlnext-toured', 'yes')"
"""Run in a new page, this leaves the tour of the first visit out."""


def open_fold(page, fold: str, field: str) -> None:
    """Open a fold, and look at it before anything is typed there.

    Gradio sets the fields of a fold once more some 30 ms after they appear; what is typed before that is lost.

    Args:
        page: the page, or a tab of it.
        fold: selector of the fold.
        field: selector of a field in it.
    """
    page.click(f"{fold} button >> nth=0")
    page.wait_for_selector(field)
    page.evaluate("() => new Promise(done => setTimeout(() => requestIdleCallback(done), 500))")
