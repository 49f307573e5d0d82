"""The script process as the pipeline sees it.

    Beam worker (SDK harness)                         script process
    ┌──────────────────────────────┐                  ┌────────────────────────────┐
    │ pool      leases processes   │                  │ launcher   comes up        │
    │ process   starts, ends, why  │── exec, pidfd ──▶│ runs       calls main      │
    │ session   one run            │                  │ config     what main sees  │
    │ channel   frames, both ways  │◀─ socket pair ──▶│ connection                 │
    │ log_lines lines to the log   │◀─ two pipes ─────│ stdout, stderr             │
    │ spool     rows, outputs      │── files ────────▶│ reader                     │
    └──────────────────────────────┘                  └────────────────────────────┘

No file in this room knows of Beam.
"""
