"""Ways to reach the platform: each turns its events into our nouns and our sends into its calls."""
