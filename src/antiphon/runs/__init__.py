"""Runs turns as tasks, keeps their logs, feeds their readers, cancels and recovers them."""
