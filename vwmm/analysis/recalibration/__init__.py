"""What is fitted on validation cases and used on others: temperature, operating point, prediction sets."""
