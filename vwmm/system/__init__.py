"""What every floor needs. It imports no other floor."""
