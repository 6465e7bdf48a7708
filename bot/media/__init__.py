"""Media for real: fetches the files of messages, keeps each once under the address of its content, and proves it."""
