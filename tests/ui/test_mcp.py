"""The endpoints as MCP tools: an MCP client draws until the adherence is high enough, or says why not."""

from __future__ import annotations

import ast
import asyncio
import base64
import re

import pytest
from ui_fakes import FakeStudio

pytest.importorskip("mcp", reason="the extra mcp is not installed")


@pytest.fixture(scope="module")
def tools_url(tmp_path_factory):
    from controlnext.ui import build_ui, launch_options

    page = build_ui(FakeStudio(tmp_path_factory.mktemp("outputs")))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, mcp_server=True, **launch_options())
    yield f"{url}gradio_api/mcp/"
    page.close()


def with_tools(url, work):
    """Run a coroutine function with a session of an MCP client."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def run():
        async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            return await work(session)

    return asyncio.run(run())


async def call(session, tool, **arguments):
    """Whether a tool went wrong, and the text that it answers with."""
    answer = await session.call_tool(tool, arguments)
    return answer.isError, " ".join(part.text for part in answer.content if part.type == "text")


async def draw_until(session, photo, target, most=3):
    """What an agent does: other seeds until the score is reached; returns the picture's address, the score and why it ended."""
    _, text = await call(session, "annotate", image=photo, annotator="canny")
    condition = re.search(r"http\S+", text)[0]
    best = ("", 0.0)
    for seed in range(most):
        _, text = await call(session, "generate", image=photo, annotator="canny", seed=seed, prompt="a person")
        pictures, _ = ast.literal_eval(text)
        address = pictures[0]["image"]["url"]
        _, text = await call(session, "score", image=address, condition=condition, annotator="canny")
        score = ast.literal_eval(text)["adherence"]
        best = max(best, (address, score), key=lambda one: one[1])
        if best[1] >= target:
            return *best, f"reached {target} with seed {seed}"
    return *best, f"{most} seeds reached {best[1]:.2f} at most, and {target} was wished"


def as_text(picture):
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def test_the_tools_are_listed_with_what_they_take(tools_url):
    tools = {tool.name: tool for tool in with_tools(tools_url, lambda session: session.list_tools()).tools}
    assert {"annotate", "generate", "score", "sweep", "poses", "repair"} <= tools.keys()
    assert {"image", "condition", "annotator"} <= tools["score"].inputSchema["properties"].keys()
    assert "adherence" in tools["score"].description


def test_an_agent_draws_until_the_score_is_reached_or_says_why_not(tools_url, picture):
    photo = as_text(picture)
    address, score, why = with_tools(tools_url, lambda session: draw_until(session, photo, 0.1))
    assert score >= 0.1, why
    assert why.startswith("reached")
    assert address.startswith("http")
    _, score, why = with_tools(tools_url, lambda session: draw_until(session, photo, 1.01))
    assert f"{score:.2f} at most" in why


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"annotator": "nonesuch"}, "nonesuch"),
        ({"image": "http://127.0.0.1:1/gradio_api/file=/etc/hostname"}, "address"),
    ],
)
def test_what_is_wrong_comes_back_as_a_sentence(tools_url, picture, change, says):
    given = {"image": as_text(picture), "condition": as_text(picture), "annotator": "canny", **change}
    wrong, text = with_tools(tools_url, lambda session: call(session, "score", **given))
    assert wrong
    assert says in text
    assert "hostname" not in text
