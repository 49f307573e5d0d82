"""DoFns: wiring between Beam and the feeds; windows, state, timers, dead letters, coders."""
