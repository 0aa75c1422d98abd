"""A headless Chromium, driven by its own protocol over a pair of pipes.

Contract: it is ended whatever happens, with everything of its own; what a page does wrong
is an error here.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


class Browser:
    """One browser with one page."""

    def __init__(self, program, size=(1280, 800)):
        self.folder = tempfile.mkdtemp(prefix="socket-snoop-browser-")
        # chrome://tracing is for those who ask for it.
        with open(os.path.join(self.folder, "Local State"), "w") as file:
            json.dump({"internal_only_uis_enabled": True}, file)
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        command = [
            program,
            "--headless",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-gpu",
            "--allow-file-access-from-files",
            f"--user-data-dir={self.folder}",
            f"--window-size={size[0]},{size[1]}",
        ]
        if os.geteuid() == 0:
            command.append("--no-sandbox")
        # It reads from descriptor 3 and writes to 4.
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "browser", *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.input, self.output = ours_out, ours_in
        self.rest, self.number, self.session = b"", 0, None
        self.console = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ["Page", "Runtime", "DOM"]:
            self.call(f"{domain}.enable")

    def message(self, deadline):
        """The next message."""
        while b"\0" not in self.rest:
            left = max(0, deadline - time.monotonic())
            if not select.select([self.output], [], [], left)[0]:
                raise TimeoutError("the browser does not answer")
            more = os.read(self.output, 1 << 20)
            if not more:
                raise EOFError("the browser has ended")
            self.rest += more
        first, self.rest = self.rest.split(b"\0", 1)
        return json.loads(first)

    def call(self, method, **params):
        """Calls a method; what it gives."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.input, data) :]
        deadline = time.monotonic() + 60
        while True:
            answer = self.message(deadline)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            if answer.get("method") == "Runtime.consoleAPICalled":
                said = answer["params"]
                text = " ".join(str(a.get("value", "")) for a in said["args"])
                self.console.append((said["type"], text))
            if answer.get("method") == "Runtime.exceptionThrown":
                self.console.append(("exception", json.dumps(answer["params"])))

    def open(self, url):
        """Goes to a page."""
        self.console.clear()
        failed = self.call("Page.navigate", url=url).get("errorText")
        if failed:
            raise RuntimeError(f"{url}: {failed}")

    def evaluate(self, expression):
        """The value of an expression in the page."""
        got = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        if "exceptionDetails" in got:
            raise RuntimeError(f"{expression}: {got['exceptionDetails']}")
        return got["result"].get("value")

    def wait(self, expression, seconds=60):
        """Waits until an expression in the page is true; its value."""
        deadline = time.monotonic() + seconds
        while True:
            value = self.evaluate(expression)
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression}: still {value!r}")
            time.sleep(0.05)

    def choose(self, selector, path):
        """Gives a file to a form's input."""
        got = self.call("Runtime.evaluate", expression=selector)
        self.call(
            "DOM.setFileInputFiles",
            files=[os.path.abspath(path)],
            objectId=got["result"]["objectId"],
        )

    def picture(self, path, clip=None):
        """Takes a picture of the page."""
        more = {"clip": {**clip, "scale": 1}} if clip else {}
        got = self.call("Page.captureScreenshot", format="png", **more)
        with open(path, "wb") as file:
            file.write(base64.b64decode(got["data"]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.session = None
            self.call("Browser.close")
        except (OSError, EOFError, TimeoutError, RuntimeError):
            self.process.kill()
        self.process.wait(timeout=60)
        os.close(self.input)
        os.close(self.output)
        shutil.rmtree(self.folder, ignore_errors=True)
