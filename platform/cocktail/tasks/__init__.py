"""What models are for: what is asked of them, and how their answers are scored and reported."""
