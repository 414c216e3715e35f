"""A real browser for tests: Chromium or Chrome, where one is installed."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
    *("--disable-dev-shm-usage", "--remote-debugging-pipe"),
)


class Browser:
    """Chromium without a window, spoken to over a pipe: the DevTools protocol, JSON and a zero."""

    LAUNCH = """if True:  # the browser reads from 3 and writes to 4
        import fcntl, os, sys
        pipes = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]
        for place, pipe in enumerate(pipes, 3):
            os.dup2(pipe, place)
        os.execv(sys.argv[3], sys.argv[3:])"""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self.ours_out = os.pipe()
        self.ours_in, theirs_out = os.pipe()
        words = [CHROMIUM, *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"]
        pipes = [str(theirs_in), str(theirs_out)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.LAUNCH, *pipes, *words],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.numbers, self.rest, self.session, self.events = itertools.count(), b"", None, []

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.ours_out, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._read()
            if reply.get("id") == number:
                assert "error" not in reply, reply
                return reply["result"]
            self.events.append(reply)

    def _read(self):
        while b"\0" not in self.rest:
            data = os.read(self.ours_in, 1 << 20)
            assert data, "the browser has gone"
            self.rest += data
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, path, width=260, height=700, scale=1, mobile=False, viewer=True):
        """Show a file in a new page of this size, and wait until it is ready: a viewer of its own
        accord, another page when it is loaded."""
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session, self.events = attached["sessionId"], []
        for domain in ("Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=path.absolute().as_uri())
        ready = "viewer.ready" if viewer else "Promise.resolve()"
        there = "window.viewer" if viewer else "document.readyState === 'complete'"
        self.ask(
            f"""new Promise((resolve) => {{
              const look = () => {there} ? {ready}.then(resolve) : setTimeout(look, 20);
              look();
            }})"""
        )

    def ask(self, script):
        """The JSON value of a script in the page; a promise is waited for."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        reply = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def settle(self):
        """Wait until everything is drawn."""
        self.ask(
            """new Promise((resolve) => {
              const look = () => viewer.busy ? setTimeout(look, 10) : resolve();
              setTimeout(look, 50);
            })"""
        )

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours_in)
        os.close(self.ours_out)
        self.folder.cleanup()


CANVAS = """(() => {
  const canvas = document.getElementById(NAME), { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  return { width, height, pixels: Array.from(data) };
})()"""


def canvas(browser, name):
    """Its pixels, uint8 (h, w, 4)."""
    found = browser.ask(CANVAS.replace("NAME", json.dumps(name)))
    return np.array(found["pixels"], np.uint8).reshape(found["height"], found["width"], 4)
