"""Cases, their table, and splits by patient."""
