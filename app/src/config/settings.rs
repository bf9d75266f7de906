//! The table of all settings. Defaults, `mill config show`, the file that `mill init` writes and `docs/settings.md`
//! come from it. A test fails if a setting is in a section and not in the table, or the other way round.

use crate::engine_choice::ENGINE_SETTINGS;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the file: the section, a dot, and its name there.
    pub key: &'static str,
    /// Its default.
    pub default: &'static str,
    /// What it means.
    pub about: &'static str,
    /// An example value, and its use.
    pub example: (&'static str, &'static str),
    /// What another value costs.
    pub cost: &'static str,
}

impl Setting {
    /// Its section in the file.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// Its name in the section.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// Its environment variable, such as `MILL_WORKMAN_WORKERS`.
    pub fn variable(&self) -> String {
        format!("MILL_{}", self.key.replace(['.', '-'], "_").to_uppercase())
    }
}

/// All settings, section by section.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    ENGINE_SETTINGS.iter().chain(SETTINGS)
}

/// The key that is most similar to an unknown one, if there is one.
pub(super) fn nearest(unknown: &str) -> Option<&'static str> {
    let (section, name) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    let likeness = |setting: &Setting| {
        // The right name may be in the wrong section, or in none.
        let elsewhere = if setting.section() == section { 0.0 } else { 0.1 };
        strsim::normalized_damerau_levenshtein(name, setting.name()) - elsewhere
    };
    let near = settings().map(|setting| (likeness(setting), setting.key));
    near.filter(|(like, _)| *like > 0.6).max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, key)| key)
}

const SETTINGS: &[Setting] = &[
    Setting {
        key: "policies.folder",
        default: "policies",
        about: "folder of policy files",
        example: ("/srv/mill/policies", "policies that several hosts mount"),
        cost: "nothing; a relative path begins at the folder of `mill.toml`",
    },
    Setting {
        key: "policies.bucket",
        default: "",
        about: "bucket of policy files instead, or BUCKET/PREFIX; reached as the engine is",
        example: ("mill-policies/production", "a fleet, whose hosts share no folder"),
        cost: "each process reads the files again once in `policies.refresh`",
    },
    Setting {
        key: "policies.refresh",
        default: "5m",
        about: "how old a policy in use may be",
        example: ("30s", "policies that are edited often"),
        cost: "shorter: more requests to where the files are; longer: a change is heeded later",
    },
    Setting {
        key: "producer.frequency",
        default: "1d",
        about: "from the start of an account's loop to that of its next",
        example: ("7d", "large spaces that change rarely"),
        cost: "each loop lists every space at both ends; longer: a change is found later",
    },
    Setting {
        key: "producer.queue-max",
        default: "auto",
        about: "tasks queued at most; auto for as many as keep all workmen busy until the producer looks again",
        example: ("50000", "a producer that cron starts seldom"),
        cost: "more: a changed policy meets more tasks that were queued before; fewer: workmen may wait",
    },
    Setting {
        key: "producer.nibble",
        default: "1000",
        about: "items of a space queued in one turn",
        example: ("100", "many small spaces that are to go on side by side"),
        cost: "fewer: more writes of the producer's place; more: a large space delays the others' turns",
    },
    Setting {
        key: "workman.workers",
        default: "64",
        about: "items in hand at once; 0 for no limit",
        example: ("8", "a slow disk, or a host that does other work"),
        cost: "each takes memory for what it copies, and asks the stores for more at once",
    },
    Setting {
        key: "workman.queues",
        default: "audit,duplication-high,duplication-low",
        about: "queues served, highest priority first",
        example: ("duplication-high", "workmen for urgent work alone"),
        cost: "a queue that no workman serves is not worked off; where requests cost, each queue is asked",
    },
    Setting {
        key: "workman.visibility",
        default: "60s",
        about: "how long a task in hand stays hidden from others",
        example: ("5m", "a fleet whose hosts often lose the network for a while"),
        cost: "longer: the tasks of a workman that died wait longer; shorter: they are extended more often",
    },
    Setting {
        key: "workman.failures-max",
        default: "3",
        about: "failed executions before a task is dead-lettered",
        example: ("10", "stores that fail item by item and recover"),
        cost: "more: an item that can never be copied is tried more often before it is named",
    },
    Setting {
        key: "workman.reserved-low",
        default: "0",
        about: "per cent of workers kept for the lowest queue",
        example: ("10", "loops that are to go on beside much urgent work"),
        cost: "these workers stand idle while the lowest queue is empty",
    },
    Setting {
        key: "workman.reserved-high",
        default: "5",
        about: "per cent of workers kept for the higher queues",
        example: ("25", "urgent work that must begin at once"),
        cost: "these workers stand idle while the higher queues are empty",
    },
    Setting {
        key: "workman.idle-backoff",
        default: "100ms,200ms,500ms,1s",
        about: "pauses of the lower queues while nothing is found (where requests cost: 1m,2m,4m,8m,8m); before its first task a workman takes the first",
        example: ("1m,2m,4m,8m,8m", "a fleet, where each look is a request that is paid for"),
        cost: "longer: fewer requests while there is nothing to do, and the first task waits longer",
    },
    Setting {
        key: "workman.grace",
        default: "30s",
        about: "how long a gentle stop waits for items in hand",
        example: ("10m", "large items that are not to be begun anew"),
        cost: "longer: a host that is to be replaced waits; what is cut off is done again by another",
    },
    Setting {
        key: "workman.new-space-command",
        default: "",
        about: "program called with account, store and space when an event says that a space is new",
        example: ("/usr/local/bin/announce-space", "somebody who is to hear of it, or a policy that is to be made"),
        cost: "one call for each; one that fails or takes 30 s is named in the log, and not repeated",
    },
];
