"""The audit locates each line of the history in the file and at the line where it was added."""

from __future__ import annotations

from tools.audit import BASELINE, added_lines

LOG = """
diff --git a/one.py b/one.py
--- a/one.py
+++ b/one.py
@@ -3,0 +4,2 @@ def f():
+first
+second
@@ -9 +11 @@
-removed
+third
diff --git a/two.py b/two.py
--- /dev/null
+++ b/two.py
@@ -0,0 +1 @@
+first
"""


def test_added_lines_have_the_path_and_line_of_their_first_mention() -> None:
    assert added_lines(LOG) == {"first": ("one.py", 4), "second": ("one.py", 5), "third": ("one.py", 11)}


def test_hashes_that_were_added_to_the_baseline_are_not_findings() -> None:
    hashes = LOG.replace("two.py", BASELINE.name).replace("+first", "+hashed_secret")

    assert added_lines(hashes) == {
        "hashed_secret": ("one.py", 4),
        "second": ("one.py", 5),
        "third": ("one.py", 11),
    }
    assert added_lines(hashes.replace("one.py", BASELINE.name)) == {}
