//! The commands of cluster mode as a server outside of that mode answers them: clients find out by the error
//! (CLUSTER HELP gives it too, as in Redis). What the mode itself does will replace it row by row.

use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::{Acl, Deprecated, Flags, SPEC, Spec};
use crate::server::ServerCtx;
use crate::server::table::Handler;

const CHANGING: Flags = Flags::ADMIN.with(Flags::STALE).with(Flags::NO_ASYNC_LOADING);
const LOOKING: Flags = Flags::STALE;
const LOADING: Flags = Flags::LOADING.with(Flags::STALE);
const ADMIN: Flags = Flags::ADMIN.with(Flags::STALE);
const CLIENT: Flags = Flags::FAST.with(Flags::LOADING).with(Flags::STALE);

/// The tip of what is told differently by each node.
const NONDETERMINISTIC: &[&str] = &["nondeterministic_output"];

/// What the rows share.
const CLUSTER: Spec = Spec { group: "cluster", since: "3.0.0", ..SPEC };

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    usage: &'static str,
    summary: &'static str,
) -> (Spec, Handler) {
    (Spec { name, arity, flags, usage, summary, ..CLUSTER }, Handler::Server(disabled))
}

/// A row that is `since` a later version.
const fn since(version: &'static str, (spec, handler): (Spec, Handler)) -> (Spec, Handler) {
    (Spec { since: version, ..spec }, handler)
}

/// A row with tips.
const fn tips(tips: &'static [&'static str], (spec, handler): (Spec, Handler)) -> (Spec, Handler) {
    (Spec { tips, ..spec }, handler)
}

/// A row whose time is not constant.
const fn takes(complexity: &'static str, (spec, handler): (Spec, Handler)) -> (Spec, Handler) {
    (Spec { complexity, ..spec }, handler)
}

/// A row of a command that another one has replaced.
const fn replaced(
    since: &'static str,
    replaced_by: &'static str,
    (spec, handler): (Spec, Handler),
) -> (Spec, Handler) {
    (Spec { deprecated: Some(Deprecated { since, replaced_by }), ..spec }, handler)
}

/// A row of the category `connection`.
const fn of_connection((spec, handler): (Spec, Handler)) -> (Spec, Handler) {
    (Spec { acl: Acl::CONNECTION, ..spec }, handler)
}

const SLOTS: &str = "O(N) where N is the number of slots named.";
const NODES: &str = "O(N) where N is the number of nodes.";

/// The rows.
pub const COMMANDS: &[(Spec, Handler)] = &[
    of_connection(row(
        "asking",
        1,
        Flags::FAST,
        "",
        "Says that the next command follows a redirection (-ASK).",
    )),
    of_connection(row("readonly", 1, CLIENT, "", "Lets the client read from a replica of a cluster.")),
    of_connection(row("readwrite", 1, CLIENT, "", "Ends what READONLY began.")),
    (
        Spec {
            name: "cluster",
            arity: -2,
            flags: Flags::CONTAINER,
            summary: "Commands about the cluster.",
            complexity: "Depends on subcommand.",
            ..CLUSTER
        },
        Handler::Container,
    ),
    takes(SLOTS, row("cluster|addslots", -3, CHANGING, "slot [slot ...]", "Gives slots to this node.")),
    takes(
        SLOTS,
        since(
            "7.0.0",
            row(
                "cluster|addslotsrange",
                -4,
                CHANGING,
                "start-slot end-slot [start-slot end-slot ...]",
                "Gives ranges of slots to this node.",
            ),
        ),
    ),
    tips(NONDETERMINISTIC, row("cluster|bumpepoch", 2, CHANGING, "", "Raises the configuration epoch.")),
    takes(
        "O(N) where N is the number of failure reports.",
        tips(
            NONDETERMINISTIC,
            row(
                "cluster|count-failure-reports",
                3,
                ADMIN,
                "node-id",
                "Counts the nodes that report a node as failing.",
            ),
        ),
    ),
    row("cluster|countkeysinslot", 3, LOOKING, "slot", "Counts the keys of a slot."),
    takes(SLOTS, row("cluster|delslots", -3, CHANGING, "slot [slot ...]", "Takes slots from this node.")),
    takes(
        SLOTS,
        since(
            "7.0.0",
            row(
                "cluster|delslotsrange",
                -4,
                CHANGING,
                "start-slot end-slot [start-slot end-slot ...]",
                "Takes ranges of slots from this node.",
            ),
        ),
    ),
    row("cluster|failover", -2, CHANGING, "[FORCE | TAKEOVER]", "Makes a replica the primary of its shard."),
    row("cluster|flushslots", 2, CHANGING, "", "Takes all slots from this node."),
    row("cluster|forget", 3, CHANGING, "node-id", "Takes a node out of the table of nodes."),
    takes(
        "O(N) where N is the number of keys asked for.",
        tips(
            NONDETERMINISTIC,
            row("cluster|getkeysinslot", 4, LOOKING, "slot count", "Tells some of the keys of a slot."),
        ),
    ),
    since("5.0.0", row("cluster|help", 2, LOADING, "", "Explains the subcommands.")),
    tips(NONDETERMINISTIC, row("cluster|info", 2, LOOKING, "", "Tells the state of the cluster.")),
    takes(
        "O(N) where N is the length of the key.",
        row("cluster|keyslot", 3, LOOKING, "key", "Tells the slot of a key."),
    ),
    takes(
        NODES,
        since(
            "7.0.0",
            tips(
                NONDETERMINISTIC,
                row("cluster|links", 2, LOOKING, "", "Tells the connections between nodes."),
            ),
        ),
    ),
    row(
        "cluster|meet",
        -4,
        CHANGING,
        "ip port [cluster-bus-port]",
        "Makes this node and another one know each other.",
    ),
    row("cluster|myid", 2, LOOKING, "", "Tells the ID of this node."),
    since(
        "7.2.0",
        tips(
            NONDETERMINISTIC,
            row("cluster|myshardid", 2, LOOKING, "", "Tells the ID of this node's shard."),
        ),
    ),
    takes(
        NODES,
        tips(NONDETERMINISTIC, row("cluster|nodes", 2, LOOKING, "", "Tells all nodes and their slots.")),
    ),
    takes(
        NODES,
        since(
            "5.0.0",
            tips(
                NONDETERMINISTIC,
                row("cluster|replicas", 3, ADMIN, "node-id", "Tells the replicas of a primary."),
            ),
        ),
    ),
    row("cluster|replicate", 3, CHANGING, "node-id", "Makes this node a replica of a primary."),
    takes(
        NODES,
        row(
            "cluster|reset",
            -2,
            Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::STALE),
            "[HARD | SOFT]",
            "Makes this node forget the cluster.",
        ),
    ),
    row("cluster|saveconfig", 2, CHANGING, "", "Writes the state of the cluster to disk."),
    row("cluster|set-config-epoch", 3, CHANGING, "config-epoch", "Sets the epoch of a new node."),
    row(
        "cluster|setslot",
        -4,
        CHANGING,
        "slot <IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>",
        "Sets the state or the owner of a slot.",
    ),
    takes(
        NODES,
        since(
            "7.0.0",
            tips(
                NONDETERMINISTIC,
                row("cluster|shards", 2, LOADING, "", "Tells the shards and their nodes."),
            ),
        ),
    ),
    replaced(
        "5.0.0",
        "`CLUSTER REPLICAS`",
        takes(
            NODES,
            tips(
                NONDETERMINISTIC,
                row("cluster|slaves", 3, ADMIN, "node-id", "Tells the replicas of a primary (old name)."),
            ),
        ),
    ),
    replaced(
        "7.0.0",
        "`CLUSTER SHARDS`",
        takes(
            NODES,
            tips(NONDETERMINISTIC, row("cluster|slots", 2, LOADING, "", "Tells the slots and their nodes.")),
        ),
    ),
];

/// The server is not in cluster mode.
const DISABLED: CmdError = CmdError::new("ERR This instance has cluster support disabled");

fn disabled(_: &mut ServerCtx<'_>) -> CmdResult {
    Err(DISABLED)
}
