"""The console in a real Chromium: what an operator does, from the first token to the roll-back.

Every page's picture is kept under `out/console/`, so that a person can look.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from monitor.alerts.schema import Alert
from monitor.config import load_config
from monitor.truth import read_truth
from tests.conftest import DEMO_CLIP, ROOT, Mosquitto, Program, RtspServer, free_port, missing, wait_until, write_config
from tests.monitor.console.conftest import PASSWORD

SCREENS = ROOT / "out/console"
SURE = re.compile(r"unknown-animal, an animal at (9\d|100) %")
REFUSED = "Failed to load resource: the server responded with a status"
SIZES = {"wide": (1280, 800), "phone": (390, 844)}


class Browser:
    """A page in Chromium that remembers what its console complained of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        page.on("console", self._told)
        page.on("dialog", lambda dialog: dialog.accept())  # "Make it live?"
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _told(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def keep(self, name: str) -> None:
        """Take pictures of the page, light and dark, wide and narrow; nothing may stick out to the side."""
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                self.page.set_viewport_size({"width": width, "height": height})
                self.page.emulate_media(color_scheme=scheme)
                self.page.screenshot(path=SCREENS / f"{name}-{size}-{scheme}.png", full_page=True)
            assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                f"{name} on a {size} screen"
            )
        self.page.set_viewport_size({"width": 1280, "height": 800})


@pytest.fixture
def browser(
    mosquitto: Mosquitto, rtsp_server: RtspServer, run_program: Callable[[Path, Path], Program], tmp_path: Path
) -> Iterator[Browser]:
    """At the console of a program that watches the demonstration clip over RTSP, again and again; nobody is known."""
    chromium = shutil.which("chromium")
    if chromium is None:
        missing("chromium")
    port, recordings = free_port(), tmp_path / "recordings"
    (recordings / "road").mkdir(parents=True)
    shutil.copy(DEMO_CLIP, recordings / "road")
    cameras = {"road": rtsp_server.url, "yard": "rtsp://127.0.0.1:9/none"}
    console = f"[console]\nport = {port}\nrecordings_dir = '{recordings}'"
    config = write_config(tmp_path / "c.toml", cameras, mosquitto.port, console)
    program = run_program(config, tmp_path / "state")
    assert program.process.stdout is not None
    threading.Thread(target=program.process.stdout.read, daemon=True).start()  # a pipe that nobody reads fills
    wait_until(lambda: "watching road" in program.log(), seconds=40, what="the program is up")
    SCREENS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        driven = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        at = Browser(driven.new_page(), f"http://127.0.0.1:{port}")
        at.page.set_default_timeout(30_000)
        at.open("/")
        at.keep("welcome")
        at.page.get_by_label("Token").fill((tmp_path / "state/console-token").read_text().strip())
        at.page.get_by_label("Your name").fill("anna")
        at.page.get_by_label("Password").fill(PASSWORD)
        at.page.get_by_role("button", name="Make the administrator's account").click()
        at.page.wait_for_selector(".wall")
        yield at
        driven.close()


def label_unknown_animals(page: Page, wanted: int) -> int:
    """Step back through the held pictures, take the first box of an unknown animal in each; return how many it were."""
    page.get_by_role("button", name="Hold its last 30 seconds").click()
    page.wait_for_selector("#desk:not([hidden])")
    pictures = int(page.locator("#step").get_attribute("max") or 0) + 1
    labelled = 0
    for index in range(pictures, 0, -1):
        expect(page.locator("#when")).to_contain_text(f"{index} of {pictures}")
        expect(page.locator("#picture")).to_have_attribute("data-shown", str(index - 1))
        offer = page.get_by_role("button", name=SURE).first
        if offer.is_visible():
            offer.click()
            labelled += 1
        if labelled == wanted:
            break
        page.locator("#picture").press("ArrowLeft")
    return labelled


def draw_a_zone(page: Page, config: Path) -> None:
    page.get_by_label("Name of the zone").fill("crossing")
    page.get_by_label("What it is").select_option("crossing")
    page.get_by_role("button", name="Draw it").click()
    plan = page.locator("#plan")
    for x, y in ((60, 60), (300, 60), (300, 200), (60, 200)):
        plan.click(position={"x": x, "y": y})
    plan.click(position={"x": 10, "y": 10})
    page.get_by_role("button", name="Take the last corner back").click()
    page.get_by_role("button", name="Finish the shape").click()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved, and in force.").wait_for()
    (zone,) = load_config(config).cameras["road"].zones
    assert (zone.id, len(zone.polygon_px)) == ("crossing", 4)
    assert 'id = "crossing"' in page.locator("#toml").input_value()


def draw_boxes_by_mouse(page: Page) -> None:
    """Two on one picture; the first is chosen again by a click and removed."""
    canvas = page.locator("#picture")
    canvas.scroll_into_view_if_needed()
    frame = canvas.bounding_box()
    assert frame is not None
    for left in (0.1, 0.6):
        page.mouse.move(frame["x"] + left * frame["width"], frame["y"] + 0.2 * frame["height"])
        page.mouse.down()
        page.mouse.move(frame["x"] + (left + 0.2) * frame["width"], frame["y"] + 0.6 * frame["height"], steps=3)
        page.mouse.up()
    expect(page.locator("#labels li")).to_have_count(2)
    page.mouse.click(frame["x"] + 0.2 * frame["width"], frame["y"] + 0.4 * frame["height"])
    canvas.press("Delete")
    expect(page.locator("#labels li")).to_have_count(1)


def log_out_and_in(browser: Browser) -> None:
    page = browser.page
    browser.open("/cameras/nowhere")
    page.get_by_text("there is no camera of that name").wait_for()
    browser.keep("error")
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill("not her password")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("Name or password is wrong.").wait_for()
    browser.keep("login")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector(".wall")


def confirm_the_first(browser: Browser) -> bool:
    """Confirm by the keyboard what is open now; return False where it had ended before the key was pressed."""
    page = browser.page
    browser.open("/situations")
    page.locator(".situation").first.wait_for(timeout=60_000)
    page.locator(".situation").first.focus(timeout=60_000)  # there may be another one: keys judge the marked one
    page.keyboard.press("c")  # which loads the page anew, as it does by itself now and then
    try:
        page.get_by_text("Confirmed by anna").first.wait_for(timeout=5_000)
    except PlaywrightTimeout:
        return False
    return True


def say_it_is_no_animal(browser: Browser) -> None:
    page = browser.page
    page.get_by_role("button", name="Hold its last 30 seconds").click()
    page.wait_for_selector("#picture[data-shown]")
    draw_boxes_by_mouse(page)
    page.locator("#picture").press("ArrowLeft")
    page.locator("#picture").press("b")
    expect(page.locator("#labels li")).to_have_count(2)
    browser.keep("teach-two-boxes")
    page.get_by_role("button", name="It is no animal").click()
    page.get_by_role("heading", name="It is known now").wait_for()
    browser.keep("said-no-animal")


def note_a_visit(browser: Browser, recordings: Path) -> None:
    """On the first picture held and the last; the truth file is then one that `accept` reads."""
    page, canvas = browser.page, browser.page.locator("#picture")
    for key in ("Home", "End"):
        canvas.press(key)
        at = 0 if key == "Home" else int(page.locator("#step").get_attribute("max") or 0)
        expect(canvas).to_have_attribute("data-shown", str(at))
        canvas.press("b")
    page.get_by_label("Name", exact=True).fill("moose")
    page.get_by_role("button", name="This is its visit").click()
    page.get_by_text("Noted for the acceptance: road/crossing.mp4 has one visit.").wait_for()
    browser.keep("visit-noted")
    (event,) = read_truth(recordings / "crossing.json").events
    assert (event.label, len(event.boxes)) == ("moose", 2)
    assert 20 <= event.start_s < event.end_s
    page.get_by_role("button", name="It shows no animal").click()
    page.get_by_text("crossing.json has 1 visits").wait_for()


def add_a_camera_and_remove_it(browser: Browser, url: str, config: Path) -> None:
    """The file is afterwards as it was."""
    page, before = browser.page, config.read_text()
    browser.open("/")
    page.get_by_role("link", name="Add a camera").click()
    page.get_by_label("Name").fill("gate")
    page.get_by_label("Address").fill("rtsp://user:s3cret@127.0.0.1:9/none")
    page.get_by_role("button", name="Test it").click()
    expect(page.locator("#found")).to_contain_text("can't be opened", timeout=30_000)
    browser.keep("new-camera-away")
    page.get_by_label("Address").fill(url.replace("//", "//user:s3cret@"))
    page.get_by_role("button", name="Test it").click()
    expect(page.locator("#found")).to_contain_text("640 × 360 pixels", timeout=30_000)
    browser.keep("new-camera")
    page.get_by_role("button", name="Add it").click()
    page.get_by_role("heading", name="Camera gate").wait_for()
    assert load_config(config).cameras["gate"].source == url.replace("//", "//user:s3cret@")
    page.get_by_text("Remove this camera").click()
    browser.keep("camera-remove")
    page.get_by_role("button", name="Remove gate").click()
    expect(page.locator("[data-camera=gate]")).to_have_count(0)
    assert config.read_text().strip() == before.strip()


@pytest.mark.timeout(300)
def test_an_operator_teaches_an_animal_and_takes_it_back(
    browser: Browser, mosquitto: Mosquitto, rtsp_server: RtspServer, tmp_path: Path
) -> None:
    page, listener = browser.page, mosquitto.listen()
    log_out_and_in(browser)
    expect(page.locator("[data-camera=yard] .state")).to_contain_text("blind")
    browser.keep("cameras")

    browser.open("/classes")  # a site to which nothing was taught
    page.locator("tr", has_text="nothing taught yet").get_by_role("button", name="Make it live").click()
    browser.open("/situations")
    page.locator(".situation", has_text="unknown-animal").first.wait_for(timeout=60_000)  # the page looks for itself
    browser.keep("situations")
    wait_until(lambda: confirm_the_first(browser), seconds=120, what="a situation is confirmed before it ends")
    browser.keep("situations-confirmed")

    browser.open("/label?camera=road")
    browser.keep("teach-empty")
    assert label_unknown_animals(page, 4) >= 3
    browser.keep("teach")
    page.get_by_label("Name", exact=True).fill("moose")
    page.get_by_label("Name on these pages").fill("Elch")
    page.get_by_label("large").check()
    page.get_by_label("wild").check()
    page.keyboard.press("Control+Enter")
    page.get_by_role("heading", name="moose is live").wait_for()
    assert "frames" in (page.locator("#report").text_content() or "")
    browser.keep("report-card")

    browser.open("/")
    expect(page.locator("[data-camera=road] .seen")).to_contain_text("Elch", timeout=60_000)

    def named() -> set[str]:
        return {Alert.model_validate_json(text).data.animal.class_ for text in listener.got("/event/road")}

    wait_until(lambda: "moose" in named(), seconds=60, what="an alert names it")
    browser.keep("cameras-taught")

    def explained() -> int:  # a situation's name may change while its animal walks; the demonstration comes round again
        browser.open("/history?words=moose")
        return page.get_by_role("button", name="why?").count()

    wait_until(explained, seconds=60, what="the history shows one of that name")
    page.get_by_role("button", name="why?").first.click()
    page.locator(".situation .heat").first.wait_for()
    browser.keep("history")

    browser.open("/label?camera=road")
    page.get_by_label("from second").fill("20")
    page.get_by_role("button", name="Hold 30 seconds of it").click()
    expect(page.locator("#when")).to_contain_text("crossing.mp4", timeout=60_000)
    browser.keep("teach-recording")
    note_a_visit(browser, tmp_path / "recordings/road")
    say_it_is_no_animal(browser)
    browser.open("/classes")
    browser.keep("classes")
    browser.open("/classes/report")
    expect(page.locator("article", has_text="moose").locator("img")).not_to_have_count(0)
    browser.keep("classes-report")
    browser.open("/golden")
    browser.keep("golden")
    browser.open("/classes")
    page.locator("tr", has_text="starter class set").get_by_role("button", name="Try it beside").click()
    page.get_by_text("has seen").wait_for()
    wait_until(
        lambda: page.reload() and page.locator("table").count(), seconds=60, what="a crop it would call otherwise"
    )
    browser.keep("trial")
    browser.open("/classes")
    page.locator("tr", has_text="nothing taught yet").get_by_role("button", name="Make it live").click()
    page.locator("tr.active", has_text="nothing taught yet").wait_for()
    browser.open("/cameras/road")
    draw_a_zone(page, tmp_path / "c.toml")
    browser.keep("camera")
    browser.open("/health")
    page.get_by_role("button", name="Send a test alert").click()
    wait_until(lambda: any('"mode":"test"' in text for text in listener.got("/event/")), seconds=10, what="it arrives")
    browser.keep("health")
    add_a_camera_and_remove_it(browser, rtsp_server.url, tmp_path / "c.toml")
    browser.open("/accounts")
    browser.keep("accounts")
    browser.open("/audit")
    assert "moose" in (page.locator("table").text_content() or "")
    browser.keep("audit")
    listener.stop()
    assert "s3cret" not in (tmp_path / "log.txt").read_text()
    # Chromium's own words: no such page, the wrong password, a visit was noted, the address that was away
    assert browser.complaints == [
        f"{REFUSED} of {why}"
        for why in ("404 (Not Found)", "403 (Forbidden)", "400 (Bad Request)", "400 (Bad Request)")
    ]
