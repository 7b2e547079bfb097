"""Errors keep their class and attributes when a sentence is appended."""

from controlnext.errors import add_sentence
from controlnext.models.download_errors import DownloadError


def test_a_sentence_is_appended_to_an_error_of_any_class():
    error = DownloadError("The disk is full.", "disk")
    add_sentence(error, "Two frames are saved.")
    assert (type(error), str(error), error.state) == (DownloadError, "The disk is full. Two frames are saved.", "disk")
