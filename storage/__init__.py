"""PostgreSQL: what Sidestep knows, and nothing of what it does; imports no other package of ours."""
