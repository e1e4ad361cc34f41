"""What runs beside the main path: budgets."""
