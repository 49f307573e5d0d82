"""Tables of MaxCompute as sources and sinks of pipelines.

read_from_maxcompute, write_to_maxcompute    the public transforms
table                                        a table as the service describes it: columns, partitions
storage_api, tunnel                          sessions: splits to read, blocks to write, commits
column_types, json_text, table_batches       MaxCompute's types and values <-> schemas and Arrow batches
client                                       connections, retries, errors without credentials
"""
