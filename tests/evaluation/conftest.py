"""Lets the tests of this stage and of the report import the made-up run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
