"""Research questions, one file each: ``python -m experiments.<name>`` writes ``results/<name>/``."""
