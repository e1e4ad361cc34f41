"""What the server of `warm` imports before it forks; one thread, because forks inherit no pool."""

import importlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
from warm import LIBRARIES

from sem.core import console

for name, value in console.DEFAULT_ENVIRONMENT.items():
    os.environ.setdefault(name, value)
for name in LIBRARIES:
    importlib.import_module(name)
