"""The page of `--report`, also in a real browser without network."""

import re
import shutil
import time
from pathlib import Path

import pytest

from workflow.conftest import Project

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
)
FLAGS += " --disable-sync --window-size=1400,900 --host-resolver-rules=MAP*~NOTFOUND"


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory):
    """Return a copy of the finished project, after mode post, with a report of it; not to be changed."""
    project = Project(tmp_path_factory.mktemp("report") / "work")
    shutil.copytree(finished.folder, project.folder)
    assert project.run("post", "--config", "post__budget=20").status == 0
    result = project.run("--report", "page.html")
    assert result.status == 0, result.output
    return project


def test_what_a_report_holds(reported):
    text = reported.path("page.html").read_text()
    for name in (
        "tasks.png", "sample_grid.png", "sample-digits.png", "curves.png", "models.html", "validation.html",
        "test.html", "confusion.png", "reliability.png", "weights.png", "a.yaml.html", "config.yaml.html",
        "software.html", "times.html",
    ):  # fmt: skip
        assert name in text, name
    assert "Training samples with their labels" in text  # a caption
    assert "train_fold" in text
    assert not re.search(r'(src|href)="https?://', text)


@pytest.mark.parametrize("modes", [["create"], ["pp"], ["train"], ["train", "info"]])
def test_a_report_after_any_mode(project, modes):
    assert project.run(*modes, "--config", "train__cv=false", "pipelines={a: {}}").status == 0
    result = project.run("--report", "page.html", "--config", "train__cv=false", "pipelines={a: {}}")
    assert result.status == 0, result.output
    text = project.path("page.html").read_text()
    assert "software.html" in text
    assert ("sample_grid.png" in text) == (modes != ["pp"])
    assert ("curves.png" in text) == ("train" in modes)
    assert ("train_fold" in text) == ("train" in modes)


def test_a_report_of_a_mode_that_has_not_run(project):
    result = project.run("post", "--report", "page.html")
    assert result.status == 0, result.output
    assert project.path("page.html").is_file()
    assert not project.path("data").exists()


def test_a_report_changes_nothing(reported):
    assert reported.dry_run("train", "test").jobs == {}


def test_a_report_without_pivot(project):
    project.configure(pivot=None)
    assert project.run("create").status == 0
    result = project.run("--report", "page.html")
    assert result.status == 0, result.output
    assert "sample-digits.png" in project.path("page.html").read_text()


@pytest.fixture
def browser():
    """Return a browser that reaches no network."""
    if not (BROWSER and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in FLAGS.replace("MAP*~", "MAP * ~").split(" --"):
        options.add_argument(f"--{flag.removeprefix('--')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    from selenium.webdriver.chrome.service import Service

    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


def entries(browser, selector):
    """Return what is on the page, by its text."""
    from selenium.webdriver.common.by import By

    return {one.text: one for one in browser.find_elements(By.CSS_SELECTOR, selector)}


def until(condition, seconds=10):
    """Wait until something is there; return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_a_report_in_a_browser(browser, reported):
    address = Path(reported.path("page.html")).as_uri()
    browser.get(address)
    names = until(lambda: [name for name in entries(browser, "a") if re.match(r"\d ", name)])
    assert names == [
        "1 Tasks", "2 Sample images", "3 Training", "4 Metrics", "5 Calibration", "6 Ensembles", "8 Pipelines",
        "9 Software and times",
    ]  # fmt: skip
    seen = set()
    for name in names:
        browser.get(address)
        until(lambda name=name: entries(browser, "a").get(name)).click()
        pages = until(lambda: list(filter(None, entries(browser, "tbody tr"))))
        for page in pages[:3]:
            look_at(browser, page)
            seen.add(page)
    assert {"Learning curves", "Confusion matrices", "All models", "digits", "Versions of software"} <= seen
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def look_at(browser, page):
    """Open a page and see its picture or its table."""
    from selenium.webdriver.common.by import By

    until(lambda: entries(browser, "tbody tr").get(page)).find_element(By.CSS_SELECTOR, "a").click()
    shown = until(lambda: browser.find_elements(By.CSS_SELECTOR, "iframe, main img, img[src*='base64']"))[-1]
    if shown.tag_name == "img":
        until(lambda: browser.execute_script("return arguments[0].naturalWidth", shown) > 100)
        return
    browser.switch_to.frame(shown)
    assert until(lambda: browser.find_elements(By.TAG_NAME, "h1"))[0].text
    heads = browser.find_elements(By.TAG_NAME, "th")
    if heads:
        heads[0].click()
        assert heads[0].get_attribute("aria-sort") == "ascending"
    browser.switch_to.default_content()
