"""What surrounds a Kedro run: context, checks, hooks."""
