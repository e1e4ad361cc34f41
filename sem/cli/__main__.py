"""`python -m sem.cli VERB`."""

from sem.cli import main

main()
