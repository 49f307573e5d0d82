"""Files of the script: found by path or URI, fetched, unpacked, cached, and staged on the worker.

uris.py             parts of paths and URIs, and their secrets masked
fetch.py            downloads a URI; open_source.py chooses its source: http_source.py, object_source.py,
                    hdfs_source.py, beam_source.py; source.py has their interface
package_data.py     finds `res://` files
archives.py         unpacks archives; archive_entries.py refuses unsafe ones
trees.py            packs and copies directories
machine_cache.py    builds things once per machine; cache_removal.py removes old ones
staging.py          the script's files, from the pipeline to the worker; artifacts.py: large ones
source_check.py     checks the script's source; siblings.py finds the modules that it imports
beam_files.py       writes to Beam's file systems
"""
