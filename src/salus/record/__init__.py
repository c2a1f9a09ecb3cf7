"""What is known about one patient, and when."""
