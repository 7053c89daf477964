"""Files that come with the package and are read, never run: the shipped fleet."""
