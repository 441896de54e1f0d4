#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The server's page in a headless Chromium: page.py FORETOKEN [OPTIONS OF SERVE...]

Needs Debian's chromium and chromium-driver; exit status 77 where they are not there."""
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request


class Browser:
    """WebDriver, as W3C has it, by hand."""

    def __init__(self, port, profile):
        self.base = f"http://127.0.0.1:{port}"
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                            f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        self.session = self.call("POST", "/session", {"capabilities": wanted})["sessionId"]

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from error

    def __getattr__(self, name):
        return lambda *args: self.act(name, *args)

    def act(self, name, *args):
        path = f"/session/{self.session}/"
        if name == "open":
            return self.call("POST", path + "url", {"url": args[0]})
        if name == "script":
            return self.call("POST", path + "execute/sync", {"script": "return " + args[0], "args": []})
        if name == "log":
            return self.call("POST", path + "se/log", {"type": "browser"})
        if name == "type":
            found = self.call("POST", path + "element", {"using": "css selector", "value": args[0]})
            return self.call("POST", path + f"element/{list(found.values())[0]}/value", {"text": args[1]})
        if name == "click":
            found = self.call("POST", path + "element", {"using": "css selector", "value": args[0]})
            return self.call("POST", path + f"element/{list(found.values())[0]}/click", {})
        if name == "close":
            return self.call("DELETE", path.rstrip("/"))
        raise AttributeError(name)


def wait(what, condition, seconds=120):
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            print("ok  ", what)
            return
        time.sleep(0.2)
    raise SystemExit(f"not ok   {what}")


def check(what, holds, more=""):
    print("ok  " if holds else "not ok  ", what, more if not holds else "")
    if not holds:
        raise SystemExit(1)


def start_server(arguments):
    server = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if "listening on " in line:
            return server, line.split("listening on ")[1].strip()
    raise SystemExit("the server does not listen")


def try_page(browser, url):
    browser.open(url + "/")
    wait("the model's name is shown", lambda: browser.script("document.getElementById('model').textContent"))
    check("the page has its style", browser.script("getComputedStyle(document.body).display") == "flex")
    browser.type("#question", "Tell me of a cat, and of the cat again.\n")
    wait("an answer comes", lambda: browser.script("document.querySelectorAll('.assistant span').length"))
    wait("it ends", lambda: not browser.script("document.getElementById('send').hidden"))
    text = browser.script("document.querySelector('.assistant').textContent")
    check("it has words", len(text) > 5, text)
    body = json.dumps({"temperature": 0, "messages": [{"role": "user", "content": "Tell me of a cat, and of the cat again."}]})
    with urllib.request.urlopen(urllib.request.Request(url + "/v1/chat/completions", body.encode())) as answer:
        same = json.load(answer)["choices"][0]["message"]["content"]
    check("the same as without the page", text == same, f"{text!r} {same!r}")
    check("what was drafted is dimmed", browser.script("[...document.querySelectorAll('.drafted')].every((x) => getComputedStyle(x).opacity < 1)"))
    figures = browser.script("document.getElementById('figures').textContent")
    check("figures are shown", "tokens/s" in figures and "drafted" in figures, figures)
    browser.type("#question", "<b onclick=x>bold</b>\n")
    wait("a second answer ends", lambda: not browser.script("document.getElementById('send').hidden"))
    check("a message is text, not HTML", browser.script("document.querySelectorAll('#talk b').length") == 0)
    check("both turns are there", browser.script("document.querySelectorAll('.assistant').length") == 2)
    check("drafts were seen", browser.script("document.querySelectorAll('.drafted').length") > 0)
    browser.script("fetch('https://example.com/').catch(() => { window.refused = true; })")
    wait("no other place can be asked", lambda: browser.script("window.refused"), 10)
    said = [e["message"] for e in browser.log() if e["level"] == "SEVERE"]
    check("by the page's policy", any("example.com" in m and "Content Security Policy" in m for m in said), said)
    bad = [m for m in said if "example.com" not in m]
    check("nothing else is wrong in the console", not bad, bad)
    browser.click("#clear")
    check("a new chat is empty", browser.script("document.getElementById('talk').childNodes.length") == 0)


def main():
    driver = shutil.which("chromedriver")
    if not driver or not (shutil.which("chromium") or shutil.which("chromium-browser")):
        print("THE PAGE IS NOT TESTED: chromium and chromium-driver are not installed (apt-get install chromium-driver)")
        return 77
    options = sys.argv[2:] or ["--demo", "-t", "1", "--budget", "6"]
    server, url = start_server([sys.argv[1], "serve", "--port", "0", *options])
    with tempfile.TemporaryDirectory() as profile:
        chrome = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            port = next(line for line in chrome.stdout if "started successfully on port" in line)
            browser = Browser(int(port.split("port ")[1].split()[0].rstrip(".")), profile)
            try_page(browser, url)
            browser.close()
        finally:
            chrome.terminate()
            server.terminate()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
