//! The faults of a world, by name. Each is counted; a campaign can require a minimum of each.

use std::fmt;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum SimFault { $($(#[$doc])* $name,)* }

        impl SimFault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in reports.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

faults! {
    /// A process dies at one of its awaits: before a call, in its middle, or after it took effect.
    KilledAtAwait = "killed-at-await";
    /// A process dies at some moment.
    KilledAtMoment = "killed-at-moment";
    /// A process freezes for minutes and then goes on.
    Frozen = "frozen";
    /// A process is told to stop, and stops gently.
    StoppedGently = "stopped-gently";
    /// The whole fleet is down for hours.
    FleetDown = "fleet-down";
    /// A body is delivered twice.
    DeliveryDoubled = "delivery-doubled";
    /// A body comes late, by up to 12 hours.
    DeliveryLate = "delivery-late";
    /// Deliveries come in another order than they were sent in.
    DeliveriesShuffled = "deliveries-shuffled";
    /// A call on a queue fails.
    QueueFailed = "queue-failed";
    /// A call on a queue takes effect and is reported as failed.
    QueueDoneButFailed = "queue-done-but-failed";
    /// Some entries of a batch fail.
    BatchPartial = "batch-partial";
    /// Some entries of a batch take effect and are reported as failed.
    BatchDoneButFailed = "batch-done-but-failed";
    /// Three batches of a process in a row fail in part.
    BatchPartialThrice = "batch-partial-thrice";
    /// A queue does not take a batch, as it takes none for a while.
    BatchNeverTaken = "batch-never-taken";
    /// A queue refuses an entry, as it does each time.
    EntryRefused = "entry-refused";
    /// A body comes into the dead-letter queue as it is, since it was received too often.
    ReceivedTooOften = "received-too-often";
    /// A processor panics.
    ProcessorPanics = "processor-panics";
    /// A task kills the process that does it.
    TaskKills = "task-kills";
    /// A task takes longer than a lease lasts.
    TaskTakesLong = "task-takes-long";
    /// A task is in flight for as long as its queue allows.
    HeldTooLong = "held-too-long";
    /// A task is to be snoozed for longer than its queue allows.
    DelayTooLong = "delay-too-long";
    /// A process freezes before it writes a row, for longer than its leases last.
    FrozenBeforeWrite = "frozen-before-write";
    /// A call on a table fails.
    TableFailed = "table-failed";
    /// A call on a table takes effect and is reported as failed.
    TableDoneButFailed = "table-done-but-failed";
    /// A call on a store fails.
    StoreFailed = "store-failed";
    /// A call on a store takes effect and is reported as failed.
    StoreDoneButFailed = "store-done-but-failed";
    /// A call takes long.
    CallSlow = "call-slow";
    /// A storm of throttling begins.
    ThrottlingStorm = "throttling-storm";
    /// A call is throttled.
    CallThrottled = "call-throttled";
    /// A page of a listing fails.
    ListingFailed = "listing-failed";
    /// A page of a listing comes twice.
    ListingRepeated = "listing-repeated";
    /// A listing is asked for its next page and does not answer for up to an hour.
    ListingSilent = "listing-silent";
    /// A listing ends before its end.
    ListingShort = "listing-short";
    /// What was written reads back from the cache as it was sent, and from the disk otherwise; the write says that it failed.
    WriteBackFailed = "write-back-failed";
    /// A body breaks off with an error.
    BodyBroken = "body-broken";
    /// A body is cut short without a word.
    BodyTruncated = "body-truncated";
    /// A bit of a body is flipped.
    BodyFlipped = "body-flipped";
    /// A store goes away, and comes back.
    StoreGone = "store-gone";
    /// A store's items may not be read any more, until they may again.
    CredentialsGone = "credentials-gone";
    /// A store is full, until there is room.
    DiskFull = "disk-full";
    /// The policy files cannot be read for a while.
    PoliciesGone = "policies-gone";
    /// A process's wall clock is off by up to an hour.
    ClockOff = "clock-off";
    /// A process's wall clock steps back.
    ClockBack = "clock-back";
    /// People write a new item.
    UserWrote = "people-wrote";
    /// People overwrite an item.
    UserOverwrote = "people-overwrote";
    /// People change an item's properties alone.
    UserRelabelled = "people-relabelled";
    /// People delete an item.
    UserDeleted = "people-deleted";
    /// People give an item another spelling of its name.
    UserRespelled = "people-respelled";
    /// A destination refuses a name that it takes for another's.
    TwinRefused = "twin-refused";
    /// What stands at a destination is given another spelling of its name.
    TwinRespelled = "twin-respelled";
    /// People delete many items at once.
    UserDeletedMany = "people-deleted-many";
    /// People remove a whole space, and perhaps bring it back.
    SpaceRemoved = "space-removed";
    /// A disk that is mounted beneath a source goes out of sight, and comes back.
    SourceUnmounted = "source-unmounted";
    /// Another disk than before stands where one was mounted beneath a source.
    SourceDiskSwapped = "source-disk-swapped";
    /// People change an item in the very moment in which it is read.
    ChangedUnderRead = "changed-under-read";
    /// An item comes back in the very moment in which its deletion is proved.
    ReturnedUnderDelete = "returned-under-delete";
    /// An item comes back before its deletion is proved, and its source may not be looked into any more.
    ReturnedBehindDenial = "returned-behind-denial";
    /// A source space goes out of sight before a deletion from it is proved, and comes back with all that it held.
    SpaceGoneUnderDelete = "space-gone-under-delete";
    /// Policy changes in the very moment in which a deletion is proved.
    PolicyChangedUnderDelete = "policy-changed-under-delete";
    /// People at a destination write an item anew in the very moment in which it is deleted.
    RewrittenUnderDelete = "rewritten-under-delete";
    /// A policy is edited.
    PolicyEdited = "policy-edited";
    /// A policy is emptied.
    PolicyEmptied = "policy-emptied";
    /// A policy file is broken.
    PolicyBroken = "policy-broken";
    /// A policy copies a store into itself, by another name that the store is reached by.
    CopiedIntoItself = "copied-into-itself";
    /// The operator lets held deletes go while the fleet works.
    HeldConfirmed = "held-confirmed";
    /// A queue is purged.
    QueuePurged = "queue-purged";
    /// A body that nobody can open, or a task that nobody can do, is sent.
    StrangeTask = "strange-task";
    /// The operator sends dead letters again.
    LetterRetried = "letter-retried";
    /// The operator discards dead letters.
    LetterDiscarded = "letter-discarded";
    /// Two operators decide about the same dead letters at once.
    LettersByTwo = "letters-by-two";
    /// A task's lease cannot be extended for a while.
    LeaseStarved = "lease-starved";
    /// A run that ends by itself is killed.
    RunKilled = "run-killed";
    /// A run that ends by itself is told to stop.
    RunStopped = "run-stopped";
    /// A run that ends by itself begins beside a producer.
    RunBesideProducer = "run-beside-producer";
    /// A run cannot write to Mill's own state for up to ten minutes.
    StateFull = "state-full";
    /// A store that a run asks does not answer for up to twenty minutes.
    StoreSilent = "store-silent";
    /// A store does not report what people did there.
    NotificationLost = "notification-lost";
    /// A store reports twice what people did there.
    NotificationDoubled = "notification-doubled";
    /// A store reports late what people did there, after what they did next.
    NotificationLate = "notification-late";
    /// The producers' lease cannot be beaten for a while.
    ProducerStarved = "producer-starved";
}

impl fmt::Display for SimFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often each kind happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultCounts(Vec<u64>);

impl Default for FaultCounts {
    fn default() -> Self {
        Self(vec![0; SimFault::ALL.len()])
    }
}

impl FaultCounts {
    /// How often one happened.
    pub fn of(&self, fault: SimFault) -> u64 {
        self.0[fault as usize]
    }

    /// Each kind, and how often.
    pub fn each(&self) -> impl Iterator<Item = (SimFault, u64)> {
        SimFault::ALL.iter().map(|fault| (*fault, self.of(*fault)))
    }

    /// All of them together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn count(&mut self, fault: SimFault) {
        self.0[fault as usize] += 1;
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (ours, theirs) in self.0.iter_mut().zip(&other.0) {
            *ours += theirs;
        }
    }
}
