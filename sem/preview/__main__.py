"""`python -m sem.preview` is `hokusai-preview`."""

from sem.preview.command import entry

if __name__ == "__main__":
    entry()
