"""Guards taken out one by one: `python -m tests.mutants` shows that a test fails without each of them."""
