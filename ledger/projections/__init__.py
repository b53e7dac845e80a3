"""What is read: each question in a room of its own, with its SQL beside it."""
