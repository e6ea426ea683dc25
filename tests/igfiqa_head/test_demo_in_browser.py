"""The page to try a model on, in headless Chromium: it scores, it parts, and it asks nobody for anything."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from igfiqa_head.demo import Results, add_photographs
from igfiqa_head.demo.drawing import TITLE
from igfiqa_head.faces import FaceDetector
from igfiqa_head.runtime import QualityModel
from tests.demo_files import make_demo_folder

ROOT = Path(__file__).resolve().parents[2]

SERVER = """
import signal, sys
from igfiqa_head.demo import launch

def tell(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event == "socket.connect" else arguments
        print("reached out to", address[0], file=sys.stderr, flush=True)

sys.addaudithook(tell)
signal.signal(signal.SIGINT, signal.default_int_handler)
launch(sys.argv[1], pack=sys.argv[2], port=int(sys.argv[3]), open_browser=False)
"""


@dataclass(frozen=True)
class Server:
    """The running page: where it is, its temporary folder and what it wrote to stderr."""

    process: subprocess.Popen[str]
    url: str
    temporary: Path
    log: Path

    def uploads(self) -> list[Path]:
        """Files that the server keeps and that are not empty."""
        return [path for path in self.temporary.rglob("*") if path.is_file() and path.stat().st_size]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_folder(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page, served by a process whose environment asks Gradio for what it must not do."""
    temporary = tmp_path_factory.mktemp("temporary")
    log = tmp_path_factory.mktemp("log") / "stderr"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    wishes = (
        "SHARE",
        "ANALYTICS_ENABLED",
        "MCP_SERVER",
        "SSR_MODE",
        "VIBE_MODE",
        "RUN_HISTORY",
        "LOCAL_DEV_MODE",
    )
    hostile = {f"GRADIO_{wish}": "True" for wish in wishes}
    hostile |= {"GRADIO_ALLOWED_PATHS": str(ROOT), "GRADIO_ROOT_PATH": "http://evil.example"}
    proxies = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": ""}
    environment = os.environ | hostile | proxies | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    command: list[str | Path] = [
        sys.executable,
        "-c",
        SERVER,
        folder / "quality.onnx",
        folder / "models/testpack",
        str(port),
    ]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if f"http://127.0.0.1:{port}" in line:
            break
    else:
        pytest.fail(f"the page did not start (it needs the extra demo):\n{''.join(lines)}{log.read_text()}")
    yield Server(process, f"http://127.0.0.1:{port}/", temporary, log)
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[webdriver.Chrome]:
    """Chromium with the page open."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.fail("this test needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.implicitly_wait(15)
    chrome.get(server.url)
    yield chrome
    chrome.quit()


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    return [element.text for element in browser.find_elements(By.CSS_SELECTOR, selector)]


def upload(browser: webdriver.Chrome, paths: Sequence[Path]) -> None:
    browser.find_element(By.CSS_SELECTOR, "#photographs input[type=file]").send_keys(
        "\n".join(map(str, paths))
    )


def wait_for_counts(browser: webdriver.Chrome, kept: int, away: int) -> None:
    wanted = [str(kept), str(away)]
    WebDriverWait(browser, 15, 0.05, ignored_exceptions=[Exception]).until(
        lambda chrome: texts(chrome, "#counts b") == wanted, f"the page never counted {wanted}"
    )


def test_the_first_screen_says_what_to_do(browser: webdriver.Chrome) -> None:
    assert texts(browser, "h1") == [TITLE]
    assert [step.split("\n")[0] for step in texts(browser, "#steps b")] == [
        "Drop face images",
        "See the scores",
        "Move the threshold",
    ]
    assert "Drop face images here" in browser.find_element(By.ID, "photographs").text
    ActionChains(browser).send_keys(Keys.TAB).perform()
    focused = browser.switch_to.active_element
    assert focused.get_attribute("aria-label") == "Click to upload or drop files"


def test_faces_appear_best_first_and_problems_are_told(
    browser: webdriver.Chrome, server: Server, folder: Path
) -> None:
    names = ("crop_0.png", "crop_1.png", "crop_2.png", "crop_3.png", "group.png", "letter <b>.jpg")
    paths = [folder / name for name in names]
    upload(browser, paths)
    wait_for_counts(browser, 6, 0)
    detector = FaceDetector(folder / "models" / "testpack", threads=1)
    model = QualityModel(folder / "quality.onnx", threads=1)
    wanted = [face.name for face in add_photographs(Results(), paths, model, detector).faces]
    assert texts(browser, "#faces figcaption span:last-child") == wanted
    percents = [float(text) for text in texts(browser, "#faces b")]
    assert percents == sorted(percents, reverse=True)
    assert len(set(percents)) > 3
    loaded = "return [...document.images].every(image => image.complete && image.naturalWidth === 112)"
    assert browser.execute_script(loaded)
    assert len(texts(browser, "#problems li")) == 1
    assert texts(browser, "#problems li b")[0].startswith("letter")
    assert server.uploads() == []


def test_the_threshold_turns_faces_away(browser: webdriver.Chrome) -> None:
    slider = browser.find_element(By.CSS_SELECTOR, "#threshold input[type=range]")
    slider.send_keys(Keys.END)
    wait_for_counts(browser, 0, 6)
    slider.send_keys(Keys.HOME)
    wait_for_counts(browser, 6, 0)
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    wait_for_counts(browser, 5, 1)
    tops = "return [...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect().top)"
    *kept, away = browser.execute_script(tops, "#faces figure")
    heading = browser.execute_script(tops, "#faces h2.away")[0]
    assert max(kept) < heading < away


def test_more_faces_join_and_the_page_can_start_over(browser: webdriver.Chrome, folder: Path) -> None:
    upload(browser, [folder / "crop_4.png", folder / "crop_5.png"])
    wait_for_counts(browser, 7, 1)
    browser.find_element(By.ID, "again").click()
    assert texts(browser, "#steps b")
    browser.implicitly_wait(0)
    assert not texts(browser, "#faces") + texts(browser, "#problems")
    browser.implicitly_wait(15)
    upload(browser, [folder / "crop_4.png", folder / "crop_5.png"])
    wait_for_counts(browser, 2, 0)


def test_it_fits_a_telephone(browser: webdriver.Chrome) -> None:
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    fits = "return document.documentElement.scrollWidth <= 400"
    WebDriverWait(browser, 10).until(lambda chrome: chrome.execute_script(fits))
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_no_error_was_logged_and_nobody_else_was_asked(browser: webdriver.Chrome, server: Server) -> None:
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert server.url in urls
    assert [url for url in urls if not url.startswith((server.url, "data:", "blob:"))] == []
    assert not [e for e in events if e["method"] == "Network.webSocketCreated"]
    reached = {line.split()[-1] for line in server.log.read_text().splitlines() if "reached out" in line}
    assert reached == set()


def test_the_environment_cannot_widen_what_is_served(server: Server) -> None:
    page = httpx.Client(base_url=server.url)
    assert page.get(f"/gradio_api/file={ROOT / 'setup.py'}").status_code == 403
    config = page.get("/config").json()
    assert config["root"] == server.url.rstrip("/")
    assert not config["vibe_mode"]
    assert page.get("/monitoring").status_code == 403
    assert page.get("/gradio_api/mcp/").status_code == 404


def test_requests_of_other_pages_are_refused(server: Server) -> None:
    page = httpx.Client(base_url=server.url)
    port = server.url.rstrip("/").rsplit(":")[-1]
    rebound = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
    for headers in (rebound, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        for answer in (page.get("/", headers=headers), page.options("/", headers=headers)):
            assert answer.status_code == 403
            assert not [name for name in answer.headers if name.startswith("access-control")]
    assert page.get("/", headers={"Origin": server.url.rstrip("/")}).status_code == 200
    assert (
        page.get("/", headers={"Host": "localhost:9"}).status_code == 200
    )  # as through ssh -L 9:127.0.0.1:7860


def test_two_tabs_with_one_photograph_do_not_disturb_each_other(server: Server, folder: Path) -> None:
    page = httpx.Client(base_url=server.url, timeout=30)
    paths = [post(page, folder / "crop_0.png") for _ in range(2)]
    assert {stat.S_IMODE(Path(path).stat().st_mode) for path in paths} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in server.temporary.iterdir()} == {0o700}
    answers = [score(page, path, f"tab {number}") for number, path in enumerate(paths)]
    assert all("<b>1</b> kept" in answer for answer in answers)
    assert not any("Without a score" in answer for answer in answers)
    assert server.uploads() == []


def post(page: httpx.Client, photograph: Path) -> str:
    """Where the server keeps an upload."""
    answer = page.post("/gradio_api/upload", files={"files": (photograph.name, photograph.read_bytes())})
    return str(answer.json()[0])


def score(page: httpx.Client, path: str, session: str) -> str:
    """What the server tells a tab to show after its upload."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    call = {"data": [None, [file], 0.0], "fn_index": 0, "session_hash": session}
    assert page.post("/gradio_api/queue/join", json=call).status_code == 200
    with page.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
        return next(line for line in events.iter_lines() if "process_completed" in line)


def break_off(server: Server) -> socket.socket:
    """An upload of which nothing more will come."""
    port = int(server.url.rstrip("/").rsplit(":")[-1])
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 9000000\r\n"
        "Content-Type: multipart/form-data; boundary=X\r\n\r\n"
        '--X\r\nContent-Disposition: form-data; name="files"; filename="half.png"\r\n\r\n'.encode()
        + bytes(2**20)
    )
    return connection


def test_nothing_is_left_when_it_is_terminated(
    browser: webdriver.Chrome, server: Server, folder: Path
) -> None:
    post(httpx.Client(base_url=server.url), folder / "crop_0.png")
    with break_off(server):
        deadline = time.monotonic() + 10
        while len(server.uploads()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(server.uploads()) == 2
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
    assert list(server.temporary.iterdir()) == []
    assert "Traceback" not in server.log.read_text()
