//! The options whose values are names: one enum each, with the names redis.conf, TOML and CONFIG GET use.
//! What a choice does is none of this file's business.

use super::setting::Choice;

macro_rules! choices {
    ($( $(#[doc = $doc:literal])+ $name:ident { $( $(#[doc = $vdoc:literal])+ $value:ident = $text:literal,
        )+ }
        $( also { $( $other:literal = $same:ident ),+ $(,)? } )? )+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $( $(#[doc = $vdoc])+ $value, )+ }

        impl Choice for $name {
            const NAMES: &'static [(&'static str, $name)] =
                &[ $( ($text, $name::$value), )+ $( $( ($other, $name::$same), )+ )? ];
        }
    )+ };
}

choices! {
    /// Where the data lives.
    Engine {
        /// In memory only; nothing is written unless asked for (SAVE, save points, appendonly).
        Memory = "memory",
        /// In memory, with an append-only log and snapshots in `data_dir`.
        Aidb = "aidb",
    }

    /// What gives way when `maxmemory` is reached.
    MaxmemoryPolicy {
        /// Keys with a TTL, approximately the least recently used first.
        VolatileLru = "volatile-lru",
        /// Keys with a TTL, approximately the least frequently used first.
        VolatileLfu = "volatile-lfu",
        /// Keys with a TTL, at random.
        VolatileRandom = "volatile-random",
        /// Keys with a TTL, the nearest deadline first.
        VolatileTtl = "volatile-ttl",
        /// Any key, approximately the least recently used first.
        AllkeysLru = "allkeys-lru",
        /// Any key, approximately the least frequently used first.
        AllkeysLfu = "allkeys-lfu",
        /// Any key, at random.
        AllkeysRandom = "allkeys-random",
        /// Nothing: commands that need memory are refused.
        Noeviction = "noeviction",
    }

    /// When the append-only log is forced to disk.
    Appendfsync {
        /// Once a second.
        Everysec = "everysec",
        /// Before a write is acknowledged.
        Always = "always",
        /// When the operating system sees fit.
        No = "no",
    }

    /// Which messages are logged. The names of Redis are printed; the usual ones are understood too.
    LogLevel {
        /// Much, for looking for faults.
        Debug = "debug",
        /// Rarely useful details, such as each connection.
        Verbose = "verbose",
        /// What one wants in production.
        Notice = "notice",
        /// Only what is wrong or may become so.
        Warning = "warning",
        /// No messages.
        Nothing = "nothing",
        /// Everything, step by step.
        Trace = "trace",
        /// Only failures.
        Error = "error",
    } also { "info" = Notice, "warn" = Warning }

    /// Which supervisor is told that the server is ready.
    Supervised {
        /// Upstart (which no longer exists).
        Upstart = "upstart",
        /// systemd, through NOTIFY_SOCKET.
        Systemd = "systemd",
        /// Whichever the environment shows.
        Auto = "auto",
        /// None.
        No = "no",
    }

    /// The syslog facility.
    SyslogFacility {
        /// LOG_USER.
        User = "user",
        /// LOG_LOCAL0.
        Local0 = "local0",
        /// LOG_LOCAL1.
        Local1 = "local1",
        /// LOG_LOCAL2.
        Local2 = "local2",
        /// LOG_LOCAL3.
        Local3 = "local3",
        /// LOG_LOCAL4.
        Local4 = "local4",
        /// LOG_LOCAL5.
        Local5 = "local5",
        /// LOG_LOCAL6.
        Local6 = "local6",
        /// LOG_LOCAL7.
        Local7 = "local7",
    }

    /// Whether a replica loads the primary's snapshot straight from the socket.
    DisklessLoad {
        /// Through a file.
        Disabled = "disabled",
        /// Straight, when nothing would be lost by a failure.
        OnEmptyDb = "on-empty-db",
        /// Straight, keeping the old data in memory until the new is complete.
        Swapdb = "swapdb",
    }

    /// Whether TLS clients must show a certificate.
    TlsAuthClients {
        /// They need not.
        No = "no",
        /// They must.
        Yes = "yes",
        /// If they show one, it must be valid.
        Optional = "optional",
    }

    /// How the kernel's out-of-memory score is adjusted.
    OomScoreAdj {
        /// Not at all.
        No = "no",
        /// By the given values, relative to the score at start.
        Relative = "yes",
        /// To the given values.
        Absolute = "absolute",
    } also { "relative" = Relative }

    /// Which pub/sub channels a new ACL user may use.
    AclPubsubDefault {
        /// All.
        Allchannels = "allchannels",
        /// None.
        Resetchannels = "resetchannels",
    }

    /// Whose RESTORE payloads are checked in depth.
    SanitizeDumpPayload {
        /// Nobody's.
        No = "no",
        /// Everybody's.
        Yes = "yes",
        /// Those of clients, not of the primary or of files.
        Clients = "clients",
    }

    /// Who may use a dangerous feature.
    YesNoLocal {
        /// Nobody.
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Clients on this machine: unix socket or loopback.
        Local = "local",
    }

    /// What a cluster node is called in redirections.
    EndpointType {
        /// Its address.
        Ip = "ip",
        /// Its announced host name.
        Hostname = "hostname",
        /// Nothing: clients go on with the address they know.
        UnknownEndpoint = "unknown-endpoint",
    }

    /// What happens when a replicated or logged command fails.
    PropagationErrorBehavior {
        /// It is counted.
        Ignore = "ignore",
        /// The process ends.
        Panic = "panic",
        /// The process ends if it is a replica.
        PanicOnReplicas = "panic-on-replicas",
    }

    /// A switch that may be left to circumstances.
    YesNoAuto {
        /// On.
        Yes = "yes",
        /// Off.
        No = "no",
        /// As the circumstances have it.
        Auto = "auto",
    }
}

impl LogLevel {
    /// The most verbose level of the `log` crate that is let through.
    pub fn filter(self) -> log::LevelFilter {
        match self {
            LogLevel::Trace => log::LevelFilter::Trace,
            LogLevel::Debug | LogLevel::Verbose => log::LevelFilter::Debug,
            LogLevel::Notice => log::LevelFilter::Info,
            LogLevel::Warning => log::LevelFilter::Warn,
            LogLevel::Error => log::LevelFilter::Error,
            LogLevel::Nothing => log::LevelFilter::Off,
        }
    }
}
