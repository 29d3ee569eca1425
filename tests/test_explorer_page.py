"""The page in a browser: what is dragged, typed and tapped is seen."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geodesic.installation import hint
from tests.explorers import scene, served

pytest.importorskip("uvicorn", reason=f"needs uvicorn: {hint('explore')}")
CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).is_file()), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium as the system installs it: apt-get install chromium"),
]
FINAL = '.geodesic-explorer[data-stage="final"]'
CERTIFIED = '.gx-badge[data-state="certified"]'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason=f"needs playwright: {hint('dev')}")
    with playwright.sync_playwright() as program:
        started = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page of the small scene; errors of its script are errors of the test."""
    said: list[str] = []
    with served(scene()) as port:

        def opened(**how: Any) -> Any:
            page = browser.new_context(**{"viewport": {"width": 1100, "height": 760}} | how).new_page()
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto(f"http://127.0.0.1:{port}/secret/")
            page.wait_for_selector(FINAL)
            return page

        yield opened
    assert not said


ANSWERED = """([before, stages]) => {
    const heard = explorer.updates.slice(before).map(([, stage]) => stage);
    return stages.every((stage) => heard.includes(stage)) && heard.at(-1) === stages.at(-1);
}"""


def answers(page: Any) -> int:
    """How many answers the page has shown by now."""
    return page.evaluate("explorer.updates.length")


def wait_for_answers(page: Any, before: int, *stages: str) -> None:
    """Until answers of these stages, the last of them at the end, have come after the first `before`.

    The page's own record is asked: a stage is on the page only until the next answer, which may be at once.
    """
    page.wait_for_function(ANSWERED, arg=[before, stages])


def middle(page: Any, end: int) -> tuple[float, float]:
    box = page.locator(f'.gx-end[data-end="{end}"]').bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def seen(page: Any) -> dict[str, Any]:
    """What a user sees of the answer."""
    return page.evaluate(
        """() => ({
            length: document.querySelector('[data-figure="length"]').textContent,
            badge: document.querySelector(".gx-badge").dataset.state,
            strip: document.querySelector('[data-strip="geodesic"]').toDataURL(),
            label: document.querySelector('[data-end="1"]').getAttribute("aria-label"),
            ends: explorer.ends, path: explorer.moved, said: document.querySelector(".gx-say").textContent,
        })"""
    )


def test_an_end_that_is_dragged_takes_path_strip_and_badge_with_it(opened: Callable[..., Any]) -> None:
    page = opened()
    before, (x, y), so_far = seen(page), middle(page, 1), answers(page)
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 13):
        page.mouse.move(x - 8 * step, y + 6 * step)
    page.wait_for_selector('.gx-badge[data-state="moving"]')
    wait_for_answers(page, so_far, "moving")
    page.mouse.up()
    page.wait_for_selector(CERTIFIED)
    after = seen(page)
    assert middle(page, 1) == pytest.approx((x - 96, y + 72), abs=1.5)
    assert after["length"] != before["length"]
    assert after["strip"] != before["strip"]
    assert after["path"][-1] == pytest.approx(after["ends"][1], abs=1e-5)


def test_ends_are_moved_by_the_keyboard_and_named_for_screen_readers(opened: Callable[..., Any]) -> None:
    page = opened()
    before, so_far = seen(page), answers(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.end") == "1"
    for key in ("ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    wait_for_answers(page, so_far, "moving", "final")
    after = seen(page)
    bounds = page.evaluate("explorer.bounds")
    step = [high - low for low, high in bounds]
    expected = [before["ends"][1][0] - 0.05 * step[0], before["ends"][1][1] + 0.01 * step[1]]
    assert after["ends"][1] == pytest.approx(expected)
    assert f"end B of the path, at {expected[0]:.2f}, {expected[1]:.2f}" in after["label"]
    assert after["badge"] == "certified"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.choice") == "quantity"  # one geometry and solver: no choice
    name = "x => x.ariaLabel || x.labels?.[0]?.textContent || x.textContent"
    names = page.evaluate(f"[...document.querySelectorAll('button, select, input')].map({name})")
    assert all(name.strip() for name in names)


def test_a_phone_shows_all_without_scrolling_sideways_and_takes_taps(opened: Callable[..., Any]) -> None:
    page = opened(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    before, so_far = seen(page), answers(page)
    place = page.evaluate("explorer.toPixels([explorer.scene.points.values[0], explorer.scene.points.values[1]])")
    box = page.locator(".gx-map").bounding_box()
    page.touchscreen.tap(box["x"] + place[0], box["y"] + place[1])
    wait_for_answers(page, so_far, "resting", "final")
    assert sum(one == other for one, other in zip(seen(page)["ends"], before["ends"], strict=True)) == 1


def test_where_the_decoder_fails_the_page_says_so_and_goes_on(opened: Callable[..., Any]) -> None:
    page = opened()
    page.evaluate("explorer.ends[1] = [2.4, 0]; explorer.follow('resting')")
    page.wait_for_selector('.gx-badge[data-state="failed"]')
    assert "out of bounds" in seen(page)["said"]
    page.evaluate("explorer.ends[1] = [1.5, 0.5]; explorer.follow('resting')")
    page.wait_for_selector(CERTIFIED)
    assert not seen(page)["said"]


@pytest.mark.parametrize(
    ("kind", "begins"), [("npz", b"PK"), ("png", b"\x89PNG"), ("svg", b"<svg"), ("gif", b"GIF89a")]
)
def test_what_is_exported_is_downloaded(opened: Callable[..., Any], kind: str, begins: bytes) -> None:
    page = opened()
    with page.expect_download() as download:
        page.click(f'[data-export="{kind}"]')
    assert download.value.suggested_filename == f"PullbackManifold-geodesic.{kind}"
    assert Path(download.value.path()).read_bytes().startswith(begins)


NOTEBOOK = """async () => {
    const { default: widget } = await import(new URL("explorer.js", document.baseURI));
    const heard = new Set(), kinds = [];
    const model = {
        on: (event, hear) => heard.add(hear), off: (event, hear) => heard.delete(hear),
        async send(fields) {
            kinds.push(fields.kind);
            const headers = { "Content-Type": "application/json" };
            const sent = await fetch("ask", { method: "POST", headers, body: JSON.stringify(fields) });
            const body = await sent.arrayBuffer(), length = new DataView(body).getUint32(0, true);
            const header = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 4, length)));
            let at = 4 + length;
            const buffers = header.arrays.map(([name, type, shape]) => {
                const bytes = shape.reduce((a, b) => a * b, 1) * (type === "uint8" ? 1 : 4);
                return new DataView(body, (at += bytes) - bytes, bytes);
            });
            heard.forEach((hear) => hear(header, buffers));
        },
    };
    const el = document.body.appendChild(document.createElement("div"));
    const close = widget.render({ model, el });
    while (el.dataset.stage !== "final") await new Promise((done) => setTimeout(done, 50));
    const badge = el.querySelector(".gx-badge").textContent, themes = [];
    for (const light of ["false", "true"]) {
        document.body.dataset.jpThemeLight = light;
        await new Promise((done) => setTimeout(done, 50));
        themes.push(el.dataset.theme);
    }
    close();
    return { badge: badge.trim(), kinds: kinds.slice(0, 3), listeners: heard.size, themes };
}"""


def test_the_same_module_is_a_widget_that_talks_by_messages_and_is_as_light_as_its_notebook(
    opened: Callable[..., Any],
) -> None:
    found = opened().evaluate(NOTEBOOK)
    assert found["badge"] == "certified geodesic"
    assert found["kinds"] == ["scene", "follow", "follow"]
    assert found["themes"] == ["dark", "light"]
    assert found["listeners"] == 0
