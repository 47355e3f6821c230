"""Commands of an operator: look, check, rebuild, redrive."""
