//! An installation with a real audit log, made by the rooms that make one in a fleet.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::try_join_all;
use mill_local::folder::{FolderSettings, FolderStore, Layout};
use mill_local::{LocalEngine, OsClock, RememberedDatabase};
use mill_model::{
    AccountId, AuditAction, AuditEvent, CopiedFrom, EventCertainty, EventId, EventSource, StoreAddress, Timestamp,
};
use mill_ports::{DestinationStore, Engine as _};
use mill_records::audit_log::AuditLog;
use mill_records::audit_log::log_files::LogFiles;
use mill_records::audit_log::publisher::{LogPublisher, OpenedLog};
use mill_records::content_index::ContentIndex;
use mill_transparency::{LogPath, LogSigner, LogVerifier, verify_log};
use serde_json::Value;

use crate::world::World;

pub(crate) const ORIGIN: &str = "archive.example.org/audit";

/// The first moment of which there is an event: 2026-11-21T08:30:00Z.
pub(crate) const BEGAN: u64 = 1_795_249_800_000;

/// The number of the event whose entry is kept beside the log.
pub(crate) const LARGE: u64 = 150;

/// Names that are hard to write down.
pub(crate) fn hard_names() -> [String; 6] {
    [
        "tab\tand\nnewline".into(),
        "smile \u{1F600} <&>\"'".into(),
        "x".repeat(1024),
        "re\rturn 100% \\n".into(),
        "bell\u{7}\u{1b}[31m\u{FFFF}".into(),
        "summer/01.jpg".into(),
    ]
}

pub(crate) fn event(number: u64, salt: &str) -> AuditEvent {
    let at = Timestamp::from_millis(BEGAN + number * 1000);
    let item = match hard_names().into_iter().nth((number % 23) as usize) {
        Some(hard) => hard,
        None => format!("item {}", number % 23),
    };
    let action = AuditAction::ALL[(number % 7) as usize];
    let (store, space) =
        (if number.is_multiple_of(5) { "2" } else { "1" }, if number.is_multiple_of(3) { "books" } else { "photos" });
    let item = action.is_of_item().then(|| item.parse().unwrap());
    let subject = (store.parse().unwrap(), space.parse().unwrap(), item);
    let mut event =
        AuditEvent::new(EventId::of_facts(at, &[salt, &number.to_string()]), subject, action, at, EventSource::Mill);
    event.user =
        (number.is_multiple_of(4)).then(|| if number.is_multiple_of(8) { "Zoë".into() } else { "Bob\t".into() });
    if action == AuditAction::AddContent {
        event.size = Some(number);
        event.checksums = vec!["md5:25f9e794323b453885f5181f1b624d0b".parse().unwrap()];
        event.properties =
            Some([("content-type".to_owned(), "image/jpeg".to_owned()), ("k\t".into(), "v\n".into())].into());
    }
    if action == AuditAction::CopyContent {
        let (space, item) = ("old".parse().unwrap(), "from\there".parse().unwrap());
        event.copied_from = Some(CopiedFrom { store: None, space, item });
    }
    if number % 11 == 7 {
        event.certainty = EventCertainty::Superseded;
    }
    if number == LARGE {
        event.properties = Some((0..100).map(|n| (format!("p{n}"), "x".repeat(1024))).collect());
    }
    event
}

/// A world with the account `library`, whose log is in stores 2 and 3.
pub(crate) struct AuditWorld {
    pub(crate) world: World,
    runtime: tokio::runtime::Runtime,
}

impl AuditWorld {
    /// With this many events that are published.
    pub(crate) fn with(count: u64) -> Self {
        let world = World::new();
        world.mill(&["init", "."]).expect(0);
        world.write("policies/duplication-accounts.json", r#"["library"]"#);
        world.write("policies/library-duplication-policy.json", r#"{"defaultPolicies": []}"#);
        world.write(
            "policies/library-stores.json",
            format!(
                r#"{{"stores": [{{"id": "1", "type": "folder", "root": "one", "primary": true}},
                               {{"id": "2", "type": "folder", "root": "two"}},
                               {{"id": "3", "type": "folder", "root": "three"}}],
                    "auditLog": {{"stores": ["2", "3"], "origin": "{ORIGIN}", "signingKeyFile": "audit-key"}}}}"#
            ),
        );
        for store in ["one", "two", "three"] {
            fs::create_dir_all(world.path(store)).unwrap();
        }
        world.write("audit-key", signer().to_secret());
        // It makes the state, and remembers it.
        world.mill(&["status"]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let made = Self { world, runtime };
        made.publish(0..count);
        made
    }

    /// Makes events ready and publishes them.
    pub(crate) fn publish(&self, numbers: std::ops::Range<u64>) {
        self.add(numbers);
        self.runtime.block_on(async {
            let engine = self.engine();
            let publisher = LogPublisher::new(AuditLog::new(engine.table(AuditLog::TABLE)));
            publisher
                .publish(&account(), &Self::opened(&["two", "three"].map(|store| self.world.path(store))))
                .await
                .unwrap();
        });
    }

    /// Makes events ready.
    pub(crate) fn add(&self, numbers: std::ops::Range<u64>) {
        self.runtime.block_on(async {
            let engine = self.engine();
            let (log, rng) = (AuditLog::new(engine.table(AuditLog::TABLE)), engine.rng());
            let events: Vec<AuditEvent> = numbers.map(|number| event(number, "log")).collect();
            try_join_all(events.iter().map(|event| async { log.add_ready(&account(), event, &*rng).await }))
                .await
                .unwrap();
        });
    }

    /// Another log of the same key, in a folder by itself.
    pub(crate) fn another_log(&self, folder: &str, count: u64) -> PathBuf {
        let root = self.world.path(folder);
        fs::create_dir_all(root.join("data")).unwrap();
        self.runtime.block_on(async {
            let engine = LocalEngine::open(&root.join("data"), &RememberedDatabase::Nothing).unwrap();
            let (log, rng) = (AuditLog::new(engine.table(AuditLog::TABLE)), engine.rng());
            let events: Vec<AuditEvent> = (0..count).map(|number| event(number, "another")).collect();
            try_join_all(events.iter().map(|event| async { log.add_ready(&account(), event, &*rng).await }))
                .await
                .unwrap();
            let opened = Self::opened(std::slice::from_ref(&root));
            LogPublisher::new(log).publish(&account(), &opened).await.unwrap();
        });
        root.join("x-audit-log")
    }

    /// The content index, with a runtime to use it by.
    pub(crate) fn index<T>(&self, with: impl AsyncFnOnce(ContentIndex) -> T) -> T {
        self.runtime.block_on(async { with(ContentIndex::new(self.engine().table(ContentIndex::TABLE))).await })
    }

    /// A copy of the log's folder in store 2, in a folder of this name.
    pub(crate) fn copy_of_log(&self, name: &str) -> PathBuf {
        let to = self.world.path(name);
        let from = self.world.path("two/x-audit-log");
        let copied = std::process::Command::new("cp").arg("-rT").arg(from).arg(&to).status().unwrap();
        assert!(copied.success());
        to
    }

    fn engine(&self) -> LocalEngine {
        LocalEngine::open(&self.world.path("data"), &RememberedDatabase::Existence).unwrap()
    }

    fn opened(roots: &[PathBuf]) -> OpenedLog {
        let verifier = LogVerifier::new(vec![signer().public().clone()]).unwrap();
        let stores = roots.iter().map(|root| files_in(root)).collect();
        OpenedLog { origin: ORIGIN.into(), signers: vec![signer()], verifier, stores }
    }
}

fn files_in(root: &Path) -> LogFiles<dyn DestinationStore> {
    let address = StoreAddress { account: account(), store: "2".parse().unwrap() };
    let settings = FolderSettings {
        address: address.clone(),
        root: root.to_owned(),
        layout: Layout::Spaces,
        sidecars: None,
        clock: Arc::new(OsClock),
    };
    LogFiles { store: Arc::new(FolderStore::open(settings)), address, space: "x-audit-log".parse().unwrap() }
}

pub(crate) fn account() -> AccountId {
    "library".parse().unwrap()
}

pub(crate) fn signer() -> LogSigner {
    LogSigner::generate(ORIGIN, [7; 32]).unwrap()
}

/// The public key, as a person gives it.
pub(crate) fn vkey() -> String {
    signer().public().to_string()
}

/// The entries of a log in a folder, once it is verified.
#[track_caller]
pub(crate) fn verified_entries(folder: &Path, signer: &LogSigner) -> Vec<Value> {
    let read = |path: LogPath| match fs::read(folder.join(path.to_string())) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let verifier = LogVerifier::new(vec![signer.public().clone()]).unwrap();
    let checkpoint = verifier.open(&read(LogPath::Checkpoint).unwrap().expect("a checkpoint")).unwrap().checkpoint;
    let mut entries = Vec::new();
    verify_log(&checkpoint, None, read, |_, entry| entries.push(serde_json::from_slice(entry).unwrap())).unwrap();
    entries
}

/// The entries of a bundle.
pub(crate) fn entries_of(bundle: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut found) = (bundle, Vec::new());
    while let [high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        found.push(after[..length].to_vec());
        rest = &after[length..];
    }
    found
}

/// The bundle of these entries.
pub(crate) fn bundle_of(entries: &[Vec<u8>]) -> Vec<u8> {
    entries.iter().flat_map(|entry| [&u16::try_from(entry.len()).unwrap().to_be_bytes(), &entry[..]].concat()).collect()
}
