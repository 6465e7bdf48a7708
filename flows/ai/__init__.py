"""Answers by a language model. Only claude.py and openai.py import an SDK, and only the configured one is loaded."""
