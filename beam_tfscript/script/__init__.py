"""The script's files and its interpreter: where they come from, and how they reach a run."""
