"""The script process as the pipeline sees it.

    Beam worker (SDK harness)                         script process
    ┌──────────────────────────────┐                  ┌────────────────────────────┐
    │ pool      leases processes   │                  │ launcher   comes up        │
    │ process   starts, ends, why  │── exec, pidfd ──▶│ runs       calls main      │
    │ session   one run            │                  │ config     what main sees  │
    │ channel   frames, both ways  │◀─ socket pair ──▶│ connection                 │
    │ log_lines lines to the log   │◀─ two pipes ─────│ stdout, stderr             │
    │ spool     rows, outputs      │── files ────────▶│ reader                     │
    │ guardian  cleans up after it │                  └──────────────▲─────────────┘
    └──────────────┬───────────────┘                                 │
                   └── pipe, pidfd ──▶ guard_main ── SIGKILL, if the worker dies

    pool         with places, idle, users, alarm and lease: who may have a process, and until when
    process      with process_spec, handshake, exit_status and activity: how it starts, how it ends, what it does
    session      with feed_session, live_session, row_backlog, live_runs and multiplex: runs, fed as they go on
    log_lines    with known_noise: what is logged of a line, and what errors show
    scratch      the harness's directory

No file in this room knows of Beam.
"""
