"""The language of the library stays within the limits that admired code keeps."""

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
