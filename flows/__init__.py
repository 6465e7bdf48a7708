"""What the bot can do: flows read a turn and yield replies and effects, never send, see only storage.models."""
