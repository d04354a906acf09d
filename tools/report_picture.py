"""The picture of a report in README.md: the top of report.html, by Chromium without a window.

python -m tools.report_picture runs/NAME            writes docs/images/report.png
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

_PICTURE = Path(__file__).parents[1] / "docs" / "images" / "report.png"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_WIDTH = 1040
"""CSS pixels: the page's full width, so that all cards are in one row."""
_TIMEOUT_S = 120


def picture_command(browser: str, page: Path, picture: Path, height: int) -> list[str]:
    """Return the command that draws the first `height` CSS pixels of `page`, at twice their number."""
    return [
        browser,
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        "--force-device-scale-factor=2",
        f"--window-size={_WIDTH},{height}",
        f"--screenshot={picture.resolve()}",
        page.resolve().as_uri(),
    ]


def main() -> None:
    """Draw the picture, or end with the cause."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="folder with report.html")
    parser.add_argument("--out", type=Path, default=_PICTURE, help="default: docs/images/report.png")
    parser.add_argument("--height", type=int, default=960, help="CSS pixels from the top (default: 960)")
    options = parser.parse_args()
    page = options.run_dir / "report.html"
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        sys.exit(f"a browser is needed: {', '.join(_BROWSERS)}")
    if not page.is_file():
        sys.exit(f"{page} is missing: run `glassbox report --run-dir {options.run_dir}` first")
    options.out.unlink(missing_ok=True)
    command = picture_command(browser, page, options.out, options.height)
    subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
    if not options.out.is_file():
        sys.exit(f"{browser} wrote no picture")
    sys.stdout.write(f"{options.out}: {options.out.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
