"""Opens the files of `--format trace` in speedscope, by a headless browser, and looks at what it shows.

Contract: the arguments are the program, speedscope's page, the browser, and where a picture goes. Prints
`ok NAME`, `FAIL NAME: why` or `skipped: why` for each check; with CI=true a skip is a failure. Then the
number of checks passed and failed; the exit code is 1 where one failed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from browser import Browser

HERE = Path(__file__).parent
SAMPLE = HERE.parent.parent / "schema/sample.jsonl"
# What speedscope has for units of time, in microseconds.
UNITS = {"ns": 0.001, "\u00b5s": 1, "\u03bcs": 1, "ms": 1e3, "s": 1e6}
INPUT = "document.querySelector('input[type=file]')"
# The bar at the top: the profile that is shown, and how many there are.
TITLE = r"(document.body.innerText.match(/^.*\(tid \d+\).*$/m) || [''])[0]"
ROWS = "[...document.querySelectorAll('tr')].map(row => row.innerText).filter(text => text.includes('%)'))"


def read(path):
    """The objects of a file that may not be whole, as such viewers read it."""
    text = path.read_text(encoding="utf-8").strip()
    return json.loads(text if text.endswith("]") else text.rstrip(",") + "]")


def lanes(path):
    """The lanes of a file by process and lane: what each is called, and by the names of its slices how
    long they took together, in microseconds."""
    names, out = {}, {}
    last = max(event["ts"] for event in read(path) if "ts" in event)
    for event in read(path):
        at = (event["pid"], event["tid"])
        if event["ph"] == "M":
            names[at if event["name"] == "thread_name" else at[0]] = event["args"]["name"]
        if event["ph"] == "B":
            stack, slices = out.setdefault(at, ([], {}))
            stack.append(event)
            slices.setdefault(event["name"], 0)
        if event["ph"] == "E":
            stack, slices = out[at]
            slices[event["name"]] += event["ts"] - stack.pop()["ts"]
    for stack, slices in out.values():
        for begin in stack:
            slices[begin["name"]] += last - begin["ts"]
    titles = {at: f"{names[at[0]]} (pid {at[0]}), {names[at]} (tid {at[1]})" for at in out}
    return [(titles[at], out[at][1]) for at in sorted(out)]


def microseconds(text):
    """Of a time such as `1.00ms (25%)`."""
    figure = text.split("(")[0].strip()
    unit = next(unit for unit in UNITS if figure.endswith(unit))
    return float(figure.removesuffix(unit)) * UNITS[unit]


class Given:
    """What the checks are of."""

    def __init__(self, program, page, browser, picture):
        self.program, self.picture = program, picture
        self.page = Path(page).resolve().as_uri()
        self.browser = browser
        self.folder = Path(picture).parent
        self.recorded = self.folder / "recorded.json"
        self.live = self.folder / "live.json"

    def load(self, path):
        """Has speedscope open a file."""
        self.browser.open(self.page)
        self.browser.wait(f"{INPUT} !== null")
        self.browser.choose(INPUT, path)
        self.browser.wait(f"{TITLE} !== ''")

    def press(self, key):
        self.browser.evaluate(f"window.dispatchEvent(new KeyboardEvent('keypress', {{key: '{key}'}}))")

    def compare(self, path):
        """Each lane has a profile of its name, with all slices of that in it, of such durations."""
        wanted = lanes(path)
        assert wanted, f"no slices in {path}"
        self.load(path)
        # A table of all slices by their names.
        self.press("3")
        for number, (title, slices) in enumerate(wanted, 1):
            title += f" ({number}/{len(wanted)})" if len(wanted) > 1 else ""
            self.browser.wait(f"{TITLE} === {json.dumps(title)}")
            self.browser.wait(f"{ROWS}.length >= {len(slices)}")
            rows = [row.split("\t") for row in self.browser.evaluate(ROWS)]
            found = {row[-1].strip(): microseconds(row[0]) for row in rows}
            assert found.keys() == slices.keys(), f"{title}: {found} is not {slices}"
            for name, took in slices.items():
                # It rounds, to two places behind the point.
                assert abs(found[name] - took) <= 0.01 * took + 0.01, f"{title}: {name} {found} {slices}"
            self.press("n")
        wrong = [said for said in self.browser.console if said[0] in ("error", "exception")]
        assert not wrong, wrong


def a_recording_is_shown(given):
    """The lines of a run, read again."""
    with open(given.recorded, "wb") as file:
        args = [given.program, "-r", SAMPLE, "--format", "trace"]
        subprocess.run(args, stdout=file, check=True)
    given.compare(given.recorded)


def a_live_run_is_shown(given):
    with open(given.live, "wb") as file:
        args = [given.program, "--format", "trace", "--no-log", "--", sys.executable, HERE / "traffic.py"]
        subprocess.run(args, stdout=file, check=True)
    given.compare(given.live)
    text = [name for title, slices in lanes(given.live) for name in [title, *slices]]
    for part in ["frontend (pid", "backend (pid", "to 127.0.0.1:", "from 127.0.0.1 to port", "ESTABLISHED"]:
        assert any(part in name for name in text), f"no {part} in {text}"


def the_file_of_a_killed_run_is_shown(given):
    """Without its end, at the end of any line."""
    lines = given.recorded.read_text(encoding="utf-8").splitlines(keepends=True)
    cut = given.folder / "cut.json"
    slices = [n for n, line in enumerate(lines) if '"ph":"B"' in line]
    for number in (slices[0] + 1, slices[len(slices) // 2] + 1, len(lines) - 2):
        cut.write_text("".join(lines[:number]), encoding="utf-8")
        given.load(cut)
        count = len(lanes(cut))
        given.browser.wait(f"{TITLE}.includes('(1/{count})') || {count} === 1")


def a_picture_is_made(given):
    given.load(given.live)
    # The lanes of the frontend are the first ones: it is older than the others.
    given.browser.wait(f"{TITLE}.includes('frontend')")
    given.browser.picture(given.picture, {"x": 0, "y": 0, "width": 1000, "height": 190})
    size = os.path.getsize(given.picture)
    assert 1000 < size < 150_000, f"{size} bytes"


def main(program, page, browser, picture):
    passed = failed = 0
    checks = [a_recording_is_shown, the_file_of_a_killed_run_is_shown]
    if os.geteuid() == 0:
        checks += [a_live_run_is_shown, a_picture_is_made]
    else:
        print("skipped: a live run: it takes root")
    with Browser(browser, (1000, 600)) as opened:
        given = Given(program, page, opened, picture)
        for check in checks:
            try:
                check(given)
            except Exception as why:  # pylint: disable=broad-except
                failed += 1
                print(f"FAIL {check.__name__}: {type(why).__name__}: {why}", flush=True)
            else:
                passed += 1
                print(f"ok {check.__name__}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
