"""What this machine has, what is wrong with it, and how fast it trains."""
