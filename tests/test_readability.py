"""The language of the library stays within the limits that admired code keeps."""

import re
import subprocess
import sys

import pytest
from paths import ROOT

TOOL = ROOT.parent / "shared" / "tools" / "readability.py"


@pytest.mark.skipif(not TOOL.exists(), reason="../shared/tools/readability.py is not here")
def test_names_docstrings_comments_and_folders_stay_readable():
    check = subprocess.run(
        [sys.executable, TOOL, ROOT / "sem", "--check"], capture_output=True, text=True
    )

    assert check.returncode == 0, check.stdout
    assert "largest folder" in check.stdout


def test_every_public_function_is_the_one_hit_of_a_search():
    # As a reader types it: `grep -rn "def NAME" sem`, a prefix of other names too.
    sources = [path.read_text("utf-8") for path in sorted((ROOT / "sem").rglob("*.py"))]
    defined = [name for text in sources for name in re.findall(r"\bdef (\w+)", text)]
    public = {
        name for text in sources for name in re.findall(r"^(?:async )?def ([a-z]\w*)", text, re.M)
    }
    hits = {name: sum(other.startswith(name) for other in defined) for name in public}

    assert {name: count for name, count in hits.items() if count != 1} == {}
