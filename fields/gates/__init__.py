"""Gates: one file each; the file name is the kind that configs name."""
