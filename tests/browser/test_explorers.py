"""What a student does: open the page, move things, look whether the picture follows."""

import pytest
from playwright.sync_api import expect

#: Lets nothing come between an upload button and the server: see `hgpose_utils.app.refuse_large_files`.
HEEDLESS = """Object.defineProperty(HTMLInputElement.prototype, "click", {
    get: () => HTMLElement.prototype.click, set: () => {},
});"""


def heatmaps(page):
    """The heatmap explorer's picture, once it is there."""
    picture = page.locator("img.widget-image").first
    expect(picture).to_be_visible()
    return picture


def control(page, kind, name):
    return page.locator(f".widget-{kind}").filter(has=page.get_by_text(name, exact=True)).first


def push(page, name, key="ArrowRight"):
    """Moves a slider by a step, with the keyboard."""
    control(page, "hslider", name).get_by_role("slider").press(key)


def choose(page, name, value):
    control(page, "dropdown", name).locator("select").select_option(value)


def upload(page, file):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="your photo").click()
    chooser.value.set_files(file)


def changes(picture, act) -> None:
    """Does something and waits until the browser shows other pixels."""
    address, before = picture.get_attribute("src"), picture.screenshot()
    act()
    expect(picture).not_to_have_attribute("src", address, timeout=60_000)
    picture.evaluate("image => image.decode()")
    assert picture.screenshot() != before


def explore_heatmaps(page, photo) -> None:
    picture = heatmaps(page)
    changes(picture, lambda: push(page, "person"))
    changes(picture, lambda: choose(page, "joint", "l_wrist"))
    changes(picture, lambda: push(page, "rotate °"))
    changes(picture, lambda: upload(page, photo))
    changes(picture, lambda: push(page, "person", "ArrowLeft"))
    changes(picture, lambda: push(page, "person"))  # the photo again


def explore_fields(page) -> None:
    picture = page.locator("img.widget-image").last
    changes(picture, lambda: choose(page, "branch", "B"))
    changes(picture, lambda: push(page, "x"))


def no_errors(page) -> None:
    """No traceback, no error output, no widget that could not be shown."""
    assert page.locator("[data-mime-type*=error], [data-mime-type*=stderr], .ansi-red-fg").count() == 0
    assert not [text for text in ("Traceback", "Error displaying widget", "Error:") if page.get_by_text(text).count()]


def test_app(page, app, photo):
    page.goto(app)
    explore_heatmaps(page, photo)
    explore_fields(page)
    no_errors(page)


@pytest.mark.parametrize("notebook, fields", [("app", True), ("04_gpu_training", False)], ids=["app", "04"])
def test_lab(page, lab, photo, notebook, fields):
    page.goto(f"{lab}/lab/tree/{notebook}.ipynb?reset")
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    heatmaps(page)
    expect(page.locator(".jp-InputPrompt", has_text="[*]")).to_have_count(0)  # every cell has run
    explore_heatmaps(page, photo)
    if fields:
        explore_fields(page)
    no_errors(page)


def test_a_photo_that_is_too_large_is_not_sent(page, app, large_photo):
    said = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.accept()))
    page.goto(app)
    picture = heatmaps(page)
    before = picture.get_attribute("src")
    upload(page, large_photo)
    page.wait_for_timeout(2000)
    assert said == ["large.png has 13.0 MB: choose a photo of at most 10 MB, or make it smaller"]
    assert picture.get_attribute("src") == before
    changes(picture, lambda: push(page, "person"))
    no_errors(page)


def test_the_server_refuses_what_a_page_should_not_have_sent(page, app, large_photo):
    page.add_init_script(HEEDLESS)
    page.goto(app)
    picture = heatmaps(page)
    before = picture.get_attribute("src")
    with page.expect_websocket():  # the old connection is cut, and a new one made
        upload(page, large_photo)
    assert picture.get_attribute("src") == before
    changes(picture, lambda: push(page, "person"))
    no_errors(page)
