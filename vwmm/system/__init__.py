"""What every floor needs: errors, signals, streams, command lines. It imports no other floor."""
