"""The daemon: the path of a message from the platform to the store, through the flows, and back."""
