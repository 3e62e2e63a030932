"""Clusters on this machine: made, started, signalled, observed and removed.

A cluster is a directory and some processes. Everything durable is in the directory; the processes
can be killed at any moment and are found again; what kvctl remembers besides can be rebuilt.

    home/                        $KVCTL_HOME, or the platform's user state directory; made 0700,
                                 left as it is if it is there
      registry.sqlite            run state: who should run, pid, nonce (`run_state`)
      clusters/<name>/
        format                   version of this layout
        cluster.json             the `ClusterConfig`, completed with identity and ports
        keys/                    CURVE keys of the nodes and of the client
        lock                     held by the command that changes the cluster (`locking`)
        nodes/<n>/               the data directory of a node, its logs, its last words

The story of one `up`, with the file that tells each part of it:

0. `strays` ends nodes that are left of a cluster that was removed from this very directory;
1. `options` merges what was asked with what the cluster was made with, or refuses;
   `config_changes` says which fields of a changed file can be applied;
2. `creation` chooses `ports`, makes keys and writes the directory, `cluster.json` last;
3. `spawn` starts the processes, `run_state` remembers them as `processes` knows them;
4. `readiness` waits, through `admin`, until each node serves and sees every other.

`supervisor` is the front door: it takes the lock and calls the rest. `observe` says what is the
case (facts about processes and answers, never beliefs), `doctor` finds what is left over, and
`exposure` what others could read.
Importing this package loads none of them: `directory` alone is what a quick `kvctl get` needs.
"""
