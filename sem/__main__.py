"""`opensem VERB`, also as `python -m sem VERB`."""

from sem.jobs.verbs import start_verb

if __name__ == "__main__":
    start_verb()
