"""The command line: arguments in, a client or a supervisor called, a result and an exit code out.

The story of `kvctl get user:1`, with the file that tells each part of it:

1. `app` looks the command up in its table of names and imports only the module it lives in;
2. `invocation` merges the global options before and after the command into one `Invocation`;
3. `data` asks `kvctl.client`, and holds no logic the client could hold;
4. `output` prints the result as a table, plain lines or JSON, and `streams` what is said of it;
5. `guard` turns any failure into one sentence, a hint and an exit code.

One file per family of commands: `lifecycle` (up, down, ls, doctor), `nodes` (start, stop, kill and
the like), `status`, `ring`, `data` (put, get, del, scan), `conflicts`, `transfer` (load, dump),
`logs`, `metrics`, `bench`, `config`, `completion`. A command imports what it needs when it runs,
since a `get` in a shell loop pays for every import.
"""
