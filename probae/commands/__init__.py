"""The work behind the command line, and the folder each run writes; `probae.cli` only reads the arguments."""
