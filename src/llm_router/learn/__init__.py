"""Offline work on the router: training and checking the embedded classifier."""
