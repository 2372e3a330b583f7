"""What a person copies from a page, by a real browser."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

#: Selects each element as a click does, and leaves what a copy of the selection gives in the page, as ASCII.
_SCRIPT = """
<script>
const copied = Array.from(document.querySelectorAll(SELECTOR), element => {
  getSelection().selectAllChildren(element);
  return getSelection().toString();
});
const ascii = JSON.stringify(copied).replace(/[^ -~]/g, c => "\\\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
document.body.innerHTML = "<pre id=copied></pre>";
document.getElementById("copied").textContent = ascii;
</script>
"""


def copied(page: str, selector: str, folder: Path) -> list[str]:
    """Texts that are copied from the elements of a page; skips the test where no Chromium is installed."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("copying from a page needs Chromium on PATH")
    file = folder / "copied.html"
    file.write_text(page.replace("</body>", _SCRIPT.replace("SELECTOR", json.dumps(selector)) + "</body>"), "utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    shown = subprocess.run([*command, "--dump-dom", file.as_uri()], capture_output=True, timeout=120, check=True)
    found = re.search(r'<pre id="copied">(.*?)</pre>', shown.stdout.decode(), re.DOTALL)
    assert found, shown.stderr.decode()[-2000:]
    texts: list[str] = json.loads(html.unescape(found[1]))
    return texts
