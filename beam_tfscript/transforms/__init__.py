"""Public transforms: their arguments, and the stages that they expand to."""
