"""What is true now: which hosts answer, what is installed and resident there, what failed lately."""
