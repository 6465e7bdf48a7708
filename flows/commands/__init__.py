"""What people may tell the bot with a leading slash, one command a module; they yield effects and never send."""
