"""What a fitted model says: evidence."""
