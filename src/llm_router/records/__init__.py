"""What happened, on disk: decisions and attempts, written beside the requests and never in their way."""
