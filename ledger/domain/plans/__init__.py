"""Commission plans: what they say, whom they credit, what they pay, and what that leads to. docs/plans.md."""
