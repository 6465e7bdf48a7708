"""Reads what was said elsewhere, WhatsApp's own exports and JSON lines, and records it as the past; wakes nothing."""
