"""What a user gets wrong: each mistake ends with its own message and exit code, and leaves nothing that was not there."""
