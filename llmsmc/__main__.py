"""`python -m llmsmc` is the command line."""

from llmsmc.cli import app

if __name__ == "__main__":
    app(prog_name="llmsmc")
