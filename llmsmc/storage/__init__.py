"""Files: formats, locks and strict reading; nothing in a file is ever executed."""
