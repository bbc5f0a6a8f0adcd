"""Starts an installed WebUI on a private data directory and drives it over HTTP.

Nothing is written into the WebUI's own folder: `--data-dir` moves its extensions,
models, embeddings, settings, caches and outputs, and the environment moves the
caches of Hugging Face, torch and gradio. The process is kept off the network.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from .hosts import host_in

Result = TypeVar("Result")

# Live previews may download their decoder, and saved pictures would pile up.
SETTINGS: dict[str, Any] = {
    "live_previews_enable": False,
    "show_progress_every_n_steps": -1,
    "samples_save": False,
    "grid_save": False,
}

# What the page shows at first: a picture that takes less than a second.
UI_DEFAULTS: dict[str, Any] = {
    f"{tab}/{label}/value": value
    for tab in ("txt2img", "img2img")
    for label, value in (("Width", 64), ("Height", 64), ("Batch count", 1))
} | {
    # Classic has them in no script.
    f"{place}{tab}/{label}/value": value
    for place in ("customscript/sampler.py/", "")
    for tab in ("txt2img", "img2img")
    for label, value in (("Sampling steps", 4), ("Sampling method", "Euler"))
}

PAYLOAD: dict[str, Any] = {
    "prompt": "a photo of a cat",
    "width": 64,
    "height": 64,
    "steps": 4,
    "seed": 1,
    "sampler_name": "Euler",
    "scheduler": "Automatic",
    "cfg_scale": 7,
}

INSIDE = Path(__file__).parent / "inside"
"""Code for the WebUI's process."""


class WebUIError(RuntimeError):
    """The WebUI did not start, or answered with an error."""


class RequestFailed(WebUIError):
    """An HTTP status other than success; `status` and `body` say which."""

    def __init__(self, url: str, status: int, body: str) -> None:
        super().__init__(f"{url} answered {status}: {body[:2000]}")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Generated:
    """What one API job made."""

    images: list[Image.Image]
    info: dict[str, Any]

    @property
    def image(self) -> Image.Image:
        return self.images[0]

    @property
    def infotexts(self) -> list[str]:
        return self.info["infotexts"]

    @property
    def infotext(self) -> str:
        return self.infotexts[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def encode_image(image: Image.Image) -> str:
    """Base64 of a PNG, as the API takes pictures."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def copy_tracked(repository: Path, target: Path) -> None:
    """Copy the working tree's tracked files: what a clone of the next commit would hold."""
    listed = subprocess.run(
        ["git", "-C", str(repository), "ls-files", "-z"], capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source = repository / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


class WebUI:
    """One WebUI process on one data directory; start, drive, restart, stop."""

    def __init__(self, installation: Path, data_dir: Path, flags: tuple[str, ...] = ()) -> None:
        self.installation = installation
        self.host = host_in(installation)
        self.data_dir = data_dir
        self.python = Path(os.environ.get("WEBUI_PYTHON") or _own_python(installation))
        self.flags = (*self.host.command_flags(installation), *flags)
        self.port = free_port()
        self.log_path = data_dir / "webui.log"
        self._process: subprocess.Popen[bytes] | None = None

    # --- preparing ---

    def prepare(self, open_clip_configs: Path, checkpoint: str) -> None:
        """Write settings, page defaults and the helper extension; `checkpoint` loads first."""
        scripts = self.data_dir / "extensions" / "rig-helper" / "scripts"
        scripts.mkdir(parents=True, exist_ok=True)
        shutil.copy2(INSIDE / "rig_helper.py", scripts)
        (scripts / "open_clip_configs.txt").write_text(str(open_clip_configs), encoding="utf-8")
        settings = SETTINGS | dict(self.host.settings) | {"sd_model_checkpoint": f"{checkpoint}.safetensors"}
        for name, content in (("config.json", settings), ("ui-config.json", UI_DEFAULTS)):
            (self.data_dir / name).write_text(json.dumps(content), encoding="utf-8")

    def install_extension(self, repository: Path, name: str) -> Path:
        """Copy an extension's tracked files in; needs a restart when one is running."""
        target = self.data_dir / "extensions" / name
        if target.exists():
            shutil.rmtree(target)
        copy_tracked(repository, target)
        return target

    def _environment(self) -> dict[str, str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("COMMANDLINE_ARGS", "PYTHONPATH", "PYTHONHOME", "SD_WEBUI_RESTARTING")
            and not name.startswith(("HF_", "TRANSFORMERS_", "HUGGINGFACE_", "GRADIO_"))
        }
        private = {
            "HF_HOME": "cache/huggingface",
            "TORCH_HOME": "cache/torch",
            "XDG_CACHE_HOME": "cache",
            "MPLCONFIGDIR": "cache/matplotlib",
            "TMPDIR": "tmp",
            "GRADIO_TEMP_DIR": "tmp/gradio",
        }
        for name, folder in private.items():
            path = self.data_dir / folder
            path.mkdir(parents=True, exist_ok=True)
            environment[name] = str(path)
        environment.update(
            HF_HUB_OFFLINE="1",
            TRANSFORMERS_OFFLINE="1",
            GRADIO_ANALYTICS_ENABLED="False",
            CUDA_VISIBLE_DEVICES="",
            PYTHONUNBUFFERED="1",
            # Threads gain nothing on these models, and on a busy machine they wait for one another.
            OMP_NUM_THREADS="1",
            MKL_NUM_THREADS="1",
            NO_PROXY="127.0.0.1,localhost",
            no_proxy="127.0.0.1,localhost",
        )
        return environment

    # --- life ---

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, timeout: float = 300) -> None:
        """Start the process and wait until the API answers and the model is loaded."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command = [str(self.python), "launch.py", *self.flags]
        command += ["--data-dir", str(self.data_dir), "--port", str(self.port)]
        mark = self.mark()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.installation,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own, so that stop() also ends what it starts.
                start_new_session=True,
            )
        try:
            self._wait_for_start(mark, timeout)
        except BaseException:
            self.stop()
            raise

    def _wait_for_start(self, mark: int, timeout: float) -> None:
        """Wait for the line that ends a start or a reload, in the log after `mark`.

        Asking the port instead would break the start: a request that arrives before
        the API is added freezes the application's middleware, and the host fails.
        """
        deadline = time.monotonic() + timeout
        while "Startup time: " not in self.log(mark):
            if self._process is None or self._process.poll() is not None:
                raise WebUIError(f"the WebUI ended; its log ends with:\n{self.log(mark)[-4000:]}")
            if time.monotonic() > deadline:
                raise WebUIError(f"no start within {timeout} s; the log ends with:\n{self.log(mark)[-4000:]}")
            time.sleep(0.1)
        # The model loads in a thread; asking for it waits for the load's lock.
        if not self.run("result = shared.sd_model is not None"):
            raise WebUIError(f"no checkpoint; the log ends with:\n{self.log(mark)[-4000:]}")

    @contextlib.contextmanager
    def running(self) -> Iterator[WebUI]:
        """Started for the block."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            try:
                process.wait(timeout=10)
                return
            except subprocess.TimeoutExpired:
                continue

    def restart(self, timeout: float = 300) -> None:
        """End the process and start it anew on the same data directory and port."""
        self.stop()
        self.start(timeout)

    def reload_ui(self, timeout: float = 120) -> None:
        """What the settings page's "Reload UI" does: same process, same model, scripts anew."""
        mark = self.mark()
        self.post("/rig/reload", {})
        self._wait_for_start(mark, timeout)

    # --- the log ---

    def mark(self) -> int:
        """Where the log ends now; give it to `log` to read what came after."""
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def log(self, since: int = 0) -> str:
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    # --- requests ---

    def request(self, method: str, path: str, body: Any = None, timeout: float = 120) -> Any:
        """The decoded JSON answer; RequestFailed carries the status of a refusal."""
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        # Local requests must not go through a proxy of the environment.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            raise RequestFailed(path, error.code, error.read().decode("utf-8", "replace")) from None

    def get(self, path: str, timeout: float = 120) -> Any:
        return self.request("GET", path, timeout=timeout)

    def post(self, path: str, body: Any, timeout: float = 120) -> Any:
        return self.request("POST", path, body, timeout)

    def run(self, code: str) -> Any:
        """Run Python inside the WebUI; `shared` is there, and `result` comes back as JSON."""
        return self.post("/rig/run", {"code": code})

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call one of the functions of ``tests/webui/inside`` inside the WebUI."""
        path = Path(function.__code__.co_filename)
        assert path.parent == INSIDE, path
        request = {"path": str(path), "name": function.__name__, "arguments": arguments}
        answer: Result = self.post("/rig/call", request)
        return answer

    # --- generation ---

    def set_options(self, **values: Any) -> None:
        """As the settings page does it: the API may not set where the extension's files are."""
        own = {name: values.pop(name) for name in list(values) if name.startswith("aesthetic_")}
        if values:
            self.post("/sdapi/v1/options", values)
        if own:
            texts = json.dumps(json.dumps(own))
            self.run(f"import json\nfor name, value in json.loads({texts}).items():\n    shared.opts.set(name, value)")

    def use(self, checkpoint: str) -> None:
        """Load a checkpoint by its name without extension and keep it selected."""
        self.set_options(sd_model_checkpoint=self.title(checkpoint))
        if self.host.lazy:
            # Else the next job would empty the host's caches and put its own conditioning into none.
            self.run(
                "from modules import processing, sd_models\n"
                "sd_models.forge_model_reload()\n"
                "processing.need_global_unload = False"
            )

    def title(self, checkpoint: str) -> str:
        """The host's title of a checkpoint, which the refiner and options accept."""
        for model in self.get("/sdapi/v1/sd-models"):
            if model["model_name"] == checkpoint:
                return model["title"]
        raise WebUIError(f"the WebUI lists no checkpoint {checkpoint!r}")

    def txt2img(self, *, checkpoint: str | None = None, **payload: Any) -> Generated:
        """One job by API on top of PAYLOAD; `checkpoint` is for this job only."""
        return self._generate("txt2img", checkpoint, payload)

    def img2img(self, image: Image.Image, *, checkpoint: str | None = None, **payload: Any) -> Generated:
        payload.setdefault("denoising_strength", 0.75)
        payload["init_images"] = [encode_image(image)]
        return self._generate("img2img", checkpoint, payload)

    def _generate(self, kind: str, checkpoint: str | None, payload: dict[str, Any]) -> Generated:
        body = PAYLOAD | dict(self.host.payload) | payload
        if "hr_upscaler" in body:
            body["hr_upscaler"] = self.host.upscaler
        if checkpoint is not None:
            override = {"sd_model_checkpoint": checkpoint, **body.get("override_settings", {})}
            body["override_settings"] = override
        answer = self.post(f"/sdapi/v1/{kind}", body, timeout=300)
        images = [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in answer["images"]]
        return Generated(images, json.loads(answer["info"]))


def generate_on_page(page: Any, prompt: str, tab: str = "txt2img", timeout: float = 60) -> str:
    """Fill the prompt, press Generate, wait for the job's end; the text under the picture."""
    page.fill(f"#{tab}_prompt textarea", prompt)
    page.click(f"#{tab}_generate")
    # The button hides behind Interrupt while a job runs; a quick job may be over before.
    with contextlib.suppress(page_timeout()):
        page.wait_for_selector(f"#{tab}_interrupt", state="visible", timeout=2_000)
    page.wait_for_selector(f"#{tab}_interrupt", state="hidden", timeout=timeout * 1000)
    page.wait_for_selector(f"#{tab}_results .progressDiv", state="detached", timeout=timeout * 1000)
    return page.inner_text(f"#html_info_{tab}")


@contextlib.contextmanager
def open_page(browser: Any, webui: WebUI, errors: list[str]) -> Iterator[Any]:
    """The WebUI's page (playwright's Page), ready and at rest; other sites are cut off.

    Uncaught errors of its scripts go into `errors` while it is open.
    """
    context = browser.new_context(viewport={"width": 1400, "height": 1400})
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(f"{error}\n{error.stack}"))
    page.route(lambda url: not url.startswith((webui.url, "data:", "blob:")), lambda route: route.abort())
    events: set[Any] = set()

    def began(event: Any) -> None:
        events.add(event)
        # A lambda, since playwright takes no built-in method.
        event.on("close", lambda closed: events.discard(closed))

    page.on("websocket", began)

    def come_to_rest() -> None:
        # gradio 3 waits for ever for an event whose page has left before its turn, and Reload UI waits with it.
        deadline = time.monotonic() + 30
        while events and time.monotonic() < deadline:
            page.wait_for_timeout(50)

    try:
        visit(page, webui)
        come_to_rest()
        yield page
    finally:
        come_to_rest()
        context.close()


def visit(page: Any, webui: WebUI) -> None:
    """Load the WebUI's page and wait until it is ready."""
    page.goto(webui.url)
    page.wait_for_selector("#txt2img_generate", timeout=60_000)
    # The page's own scripts run after the first render; this one is set last.
    page.wait_for_function("typeof opts === 'object' && Object.keys(opts).length > 0", timeout=60_000)


def page_timeout() -> type[Exception]:
    """playwright's exception for a wait that lasted too long."""
    from playwright.sync_api import TimeoutError

    return TimeoutError


def _own_python(installation: Path) -> Path:
    """The interpreter of the WebUI's own virtual environment."""
    folder, name = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    return installation / "venv" / folder / name
