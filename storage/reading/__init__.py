"""Reading the store as people, commands and other programs ask for it: pages, search, statistics; it writes nothing."""
