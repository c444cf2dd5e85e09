"""Many runs under Ray Tune."""
