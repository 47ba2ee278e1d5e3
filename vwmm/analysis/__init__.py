"""What a run was worth: metrics, their intervals, figures and the report."""
