"""What runs in the user's own process: it plans, hands out, commits and reports."""
