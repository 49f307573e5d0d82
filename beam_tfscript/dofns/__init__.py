"""DoFns: wiring between Beam and the feeds, with windows, state, timers, dead letters and Beam's row types."""
