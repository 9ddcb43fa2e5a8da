"""What a saved fit and a data file consist of, as pure functions of bytes; only `probae.io` touches disks."""
