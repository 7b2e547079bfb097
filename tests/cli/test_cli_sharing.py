"""What the app says and allows when others reach it."""

from __future__ import annotations

import httpx
import pytest
from tiny_studio import save_all

from controlnext.cli import app
from controlnext.cli.sharing import AuthError, Sharing, read_auth
from controlnext.ui import build_ui, launch_options


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SHARE", "SPACE_ID", "CONTROLNEXT_AUTH"):
        monkeypatch.delenv(name, raising=False)


def test_an_app_for_this_machine_alone_says_nothing_and_allows_everything():
    sharing = app.sharing_of(app.options([]))
    assert sharing.sentence() == ""
    assert sharing.may_train
    assert sharing.may_upload


@pytest.mark.parametrize("options", [["--share"], ["--host", "0.0.0.0"]])
def test_strangers_may_not_train_or_upload_unless_it_is_allowed(options):
    sharing = app.sharing_of(app.options(options))
    assert not sharing.may_train
    assert not sharing.may_upload
    assert "--allow-training" in sharing.sentence()
    assert "--allow-uploads" in sharing.sentence()
    assert "--auth" in sharing.sentence()
    assert app.make_trainings(app.options(options)) is None
    allowed = app.sharing_of(app.options([*options, "--allow-training", "--allow-uploads", "--auth", "me:word"]))
    assert allowed.may_train
    assert allowed.may_upload
    assert "Off:" not in allowed.sentence()
    assert "with the password" in allowed.sentence()


def test_the_sentence_is_one_line_without_the_password():
    sentence = app.sharing_of(app.options(["--share", "--auth", "me:word"])).sentence()
    assert "\n" not in sentence
    assert "word can" in sentence.replace("password", "word")
    assert "me:word" not in sentence
    assert len(sentence) <= 300


def test_a_password_may_hold_colons_and_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CONTROLNEXT_AUTH", "a:b\nc:d:e")
    assert app.passwords(app.options(["--auth", "me:word"])) == [("me", "word"), ("a", "b"), ("c", "d:e")]
    assert read_auth([]) is None


@pytest.mark.parametrize("value", ["", "me", "me:", ":word", " : "])
def test_a_password_that_is_none_is_refused(value):
    with pytest.raises(AuthError, match="user:password"):
        read_auth([value])
    assert app.run(app.options([f"--auth={value}", "--port", "1"])) == 1


def test_without_the_password_no_route_answers(tmp_path):
    import annotators
    from controlnext.studio.studio import Studio

    studio = Studio(output_dir=tmp_path / "out", presets_dir=save_all(tmp_path), annotators=annotators)
    page = build_ui(studio, uploads=False)
    page.launch(prevent_thread_lock=True, quiet=True, auth=[("me", "word")], **launch_options())
    try:
        url = page.local_url.rstrip("/")
        for method, path in (
            ("GET", "/config"), ("GET", "/gradio_api/info"), ("POST", "/gradio_api/call/models"), ("POST", "/gradio_api/run/models"),
            ("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/upload"), ("GET", "/gradio_api/file=/etc/hostname"),
            ("GET", "/gradio_api/queue/data?session_hash=x"), ("POST", "/gradio_api/component_server"),
        ):  # fmt: skip
            assert (
                httpx.request(method, f"{url}{path}", json={"data": []} if method == "POST" else None).status_code
                == 401
            ), path
        with httpx.Client() as known:
            assert known.post(f"{url}/login", data={"username": "me", "password": "wrong"}).status_code == 400
            assert known.post(f"{url}/login", data={"username": "me", "password": "word"}).status_code == 200
            assert known.post(f"{url}/gradio_api/call/models", json={"data": []}).status_code == 200
        assert not [fn for fn in page.fns.values() if fn.api_name == "upload"]
    finally:
        page.close()


def test_sharing_that_is_public_says_so():
    assert Sharing(public=True).sentence().startswith("Everyone on the internet")
    assert Sharing(host="0.0.0.0").sentence().startswith("Everyone who reaches 0.0.0.0")
