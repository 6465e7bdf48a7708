"""The soak: twelve numbers, dozens of customers, and everything that can go wrong, for as long as one likes.

`make soak MINUTES=30 SEED=1`. The daemon is the real one, a process of its own with the real neonize and a real
PostgreSQL; WhatsApp is the lab. `docs/lab.md` tells what is checked.
"""
