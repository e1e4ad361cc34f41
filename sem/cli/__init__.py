"""The command line of the projects: `opensem-cli VERB`, also `python -m sem.cli`."""


def main() -> None:
    """Run the verb on the command line; what the console script calls."""
    from sem.cli.verbs import start

    start()
