"""Script processes, seen from the pipeline: started, leased, heard and ended.

    Beam worker (SDK harness)                         script process
    ┌──────────────────────────────┐                  ┌────────────────────────────┐
    │ pool      leases processes   │                  │ launcher   comes up        │
    │ process   starts, ends, why  │── exec, pidfd ──▶│ runs       calls main      │
    │ channel   frames, both ways  │◀─ socket pair ──▶│ connection                 │
    │ log_lines lines to the log   │◀─ two pipes ─────│ stdout, stderr             │
    │ guardian  cleans up after it │                  └──────────────▲─────────────┘
    └──────────────┬───────────────┘                                 │
                   └── pipe, pidfd ──▶ guard_main ── SIGKILL, if the worker dies

    pool         with process_slots, long_wait, claim, idle, users, alarm, endings, recycling and lease: leases of
                 processes, from start to end
    pool_devices with accelerators, device_shares, device_leases, device_claim and device_queue: the accelerators
    process      with process_spec, process_group, handshake, exit_status and activity: one process, start to end
    kept_run     a run that stays in its process from lease to lease; live_runs, the runs of a harness by identity
    channel      with multiplex: frames of one process, and a wait for the next frame of several
    log_lines    with known_noise: lines to the log, and the last ones to errors
    scratch      the harness's directory

The runs themselves are in `feeds/`. No file in this room knows of Beam.
"""
