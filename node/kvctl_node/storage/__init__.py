"""The storage engine: where a node keeps its copies of records, on SQLite.

**A write**, `put(partition, key, record)`:

1. goes into the `memtable`, where reads see it at once, and onto the turn's list in the
   `commit_log`;
2. `commit`, at the end of the turn, inserts the list as one row of the log, in one transaction of
   the `database` (`data.sqlite`), and notes its number in the `disk_mark`. Now it is durable and
   may be acknowledged;
3. when the memtable is full it is frozen together with its segment of the log, and `flush`, on the
   `background` thread, writes it in key order, a `block` of records at a time, into a new `sstable`
   (by `sstable_writer`);
4. `housekeeping` drives the `installation` of the table: its `bloom_filter`, then one transaction
   that adds it to the `manifest`; then the memtable is let go, and its segment of the log is
   deleted in slices;
5. `compaction` merges tables of similar size, newest version first; when, says
   `compaction_schedule`.

**A read**, `get(partition, key)`, asks in order of age: memtable, frozen memtables, then the
`table_set`: recent answers (`answer_cache`), then the tables, newest first, where Bloom filters
(`filter_bank`) say which of them need not be opened; else not found. `scan` merges all of them.

Many new keys are a case of their own: `may_hold` tells which of them are certainly new, without
opening a table, and `put_new` takes those together.

**A hint** is kept in the `hint_log`: it takes the same path through the commit log, past a
`hint_memtable`, into a table of `data.sqlite`.

    data.sqlite    commit log, manifest with Bloom filters, hints, metadata: one connection, on the
                   loop's thread
    sstables/      NNNNNNNN.sqlite, immutable, made and removed by the background thread
    lock           held while a process uses the directory
    disk.mark      the last turn committed: tells this disk from an older one (`disk_mark`)

**Damage** is never mistaken for absence: every log batch, block, record, filter and manifest entry
carries a checksum, a missing block is noticed by the one before it (`block`), and a damaged table
goes to quarantine: it stays listed, is reported in `stats`, and reads that would need it raise
`CorruptRecordError`, until its owner gives it up to rebuild its keys (`lost_table`); what can still
be read of it is kept (`salvage`).

**A disk that is not the one that stopped here** is known at the start: a copy that was put back, or
a commit log whose tail is gone (`disk_mark`, `wal_tail`). The node then rebuilds what it holds.

**What it costs**, per record of 250 bytes, on one core: 2.6 µs to flush (8 with a row per record);
0.7 µs for a get from the answer cache, 9 µs from a table, 1 µs for a key that is nowhere. A store
of a million records takes some 80 MB of memory beside the interpreter's, with the defaults.

**Why `sqlite3` and not `sqlitedict`**: node data needs one transaction per turn, a choice of
durability and keys in order. Measured per row, sqlitedict costs 26.9 µs to write and 45.8 µs to
read against 13.9 µs and 4.3 µs here, and by default it pickles and turns synchronous writes off. It
keeps kvctl's own run state instead, where none of this matters.

The engine is `engine.SqliteStorageEngine`; its contract is `kvctl_node.ports.StorageEngine`.
"""
