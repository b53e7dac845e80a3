"""What if: history decided again under other terms or another model of attribution, beside the logs and without
writing to them (docs/simulations.md)."""
