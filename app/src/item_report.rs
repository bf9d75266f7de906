//! The report of a run (`--report`): a file with a line for each entry, for auditors.
//!
//! The lines are collected in a journal beside Mill's state ([`ItemJournal`]) and written at the end, in order, each
//! entry once. A run that is killed leaves a file without a last line. The next run with a report goes on with the
//! journal, so what the killed run did is not lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use mill_local::{ItemJournal, JournalEntry, JournalRow};
use mill_model::{EventSubject, ItemEvent, Timestamp};
use mill_ports::error_chain;
use mill_run::InSync;
use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;

use crate::UsageError;
use crate::event_line::EventLine;
use crate::result_code::ResultCode;
use crate::run_summary::RunSummary;
use crate::subject_names::SubjectNames;

/// The file of a report, opened before anything is done.
#[derive(Debug)]
pub struct ReportFile {
    file: File,
    /// As it was typed.
    path: PathBuf,
}

/// The first line of a report.
#[derive(Debug, Clone, Serialize)]
pub struct ReportHeader {
    /// The version of the report's form.
    pub mill_report: u32,
    /// The run.
    pub run: String,
    /// The version of Mill.
    pub version: String,
    /// The source of a mirror, as it was typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The destination of a mirror, as it was typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// When the run began.
    pub began: String,
    /// Whether it was a dry run, and the lines say what a run would do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The last line of a report.
#[derive(Debug, Serialize)]
struct ReportEnd {
    ended: String,
    exit_code: u8,
    in_sync: bool,
    /// Whether a line is there for each entry that the run had to do with.
    complete: bool,
    /// How many lines say what.
    lines: BTreeMap<String, u64>,
    /// What the run counted.
    sums: BTreeMap<&'static str, u64>,
}

impl ReportHeader {
    /// The form of the lines as of this version.
    const FORM: u32 = 1;

    /// The first line of the report of a run.
    pub fn new(run: &str, began: Timestamp, names: &SubjectNames) -> Self {
        let (source, destination) = match names {
            SubjectNames::Policies => (None, None),
            SubjectNames::Mirror { source, destination, .. } => (Some(source.clone()), Some(destination.clone())),
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (run, began) = (run.to_owned(), began.to_string());
        Self { mill_report: Self::FORM, run, version, source, destination, began, dry_run: false }
    }
}

impl ReportFile {
    /// How each report begins.
    const BEGINS: &[u8] = b"{\"mill_report\":";

    /// Opens the file. What is in it stays until the run begins.
    ///
    /// # Errors
    /// It cannot be written, or holds something else than a report: an item of a store, or Mill's own state.
    pub fn open(path: &Path) -> Result<Self> {
        let unusable = || format!("the report `{}` cannot be written", path.display());
        ensure_replaceable(path, unusable)?;
        let file = open_to_write(path).with_context(unusable)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Begins the report of a run whose state is in `folder`. An earlier report in the file is kept beside it.
    ///
    /// # Errors
    /// The file or the journal cannot be written.
    pub fn begin(self, folder: &Path, header: &ReportHeader, names: &SubjectNames) -> Result<EntryReport> {
        let (shown, path) = (self.path.display().to_string(), self.path.clone());
        let unusable = || format!("the report `{shown}` cannot be written");
        // Something else may have been written there since.
        ensure_replaceable(&path, unusable)?;
        let (file, kept) = self.emptied().with_context(unusable)?;
        if let Some(kept) = kept {
            let kept = kept.display();
            tracing::info!("`{}` held an earlier report, which is kept as `{kept}`", path.display());
        }
        let mut first = serde_json::to_string(header)?;
        first.push('\n');
        (&file).write_all(first.as_bytes()).with_context(unusable)?;
        // A dry run changes nothing beside the state, and is not gone on with.
        let journal = if header.dry_run { ItemJournal::scratch() } else { ItemJournal::begin(folder) };
        let (journal, file) = (journal.with_context(unusable)?, Some(Arc::new(file)));
        Ok(EntryReport { shown, file, journal, names: names.clone(), failure: Mutex::default() })
    }
}

impl ReportFile {
    /// An empty file at the path, and where its earlier content is kept, if it had any. A pipe is used as it is.
    fn emptied(self) -> io::Result<(File, Option<PathBuf>)> {
        let Self { file, path } = self;
        let facts = file.metadata()?;
        if !facts.is_file() || facts.len() == 0 {
            return Ok((file, None));
        }
        let kept = free_name_beside(&path)?;
        fs::rename(&path, &kept)?;
        Ok((File::create_new(&path)?, Some(kept)))
    }
}

/// Opens a file without emptying it. A pipe that nobody reads is an error at once: opening it would wait, deaf to signals.
fn open_to_write(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    if !fs::metadata(path).is_ok_and(|facts| facts.file_type().is_fifo()) {
        return options.open(path);
    }
    let opened = options.custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::other("it is a pipe that nobody reads"),
        _ => error,
    })?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

/// Checks that there is nothing at the path that is not a report.
fn ensure_replaceable(path: &Path, unusable: impl Fn() -> String) -> Result<()> {
    if may_be_replaced(path).with_context(unusable)? {
        return Ok(());
    }
    Err(UsageError(format!(
        "`{}` is no report of mill, so it was not overwritten, and nothing was done; name another file",
        path.display()
    ))
    .into())
}

/// Whether there is nothing at the path that is not a report. A pipe or a device is no file that could be lost.
fn may_be_replaced(path: &Path) -> io::Result<bool> {
    let facts = match fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if !facts.is_file() || facts.len() == 0 {
        return Ok(true);
    }
    let mut begins = [0; ReportFile::BEGINS.len()];
    match File::open(path)?.read_exact(&mut begins) {
        Ok(()) => Ok(begins == ReportFile::BEGINS),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the first name of `path.1`, `path.2` and so on that is free, by an empty file.
fn free_name_beside(path: &Path) -> io::Result<PathBuf> {
    let mut number = 1_u32;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        match File::create_new(&name) {
            Ok(_) => return Ok(name.into()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// A report that is being collected.
#[derive(Debug)]
pub struct EntryReport {
    shown: String,
    /// `None` in a worker process: the process that started it writes the file.
    file: Option<Arc<File>>,
    journal: ItemJournal,
    names: SubjectNames,
    /// Why it is not complete.
    failure: Mutex<Option<String>>,
}

impl EntryReport {
    /// Joins the report that the process which started this one has begun.
    ///
    /// # Errors
    /// The journal cannot be used.
    pub fn join(folder: &Path) -> Result<Self> {
        let journal = ItemJournal::join(folder).context("the journal of the report cannot be written")?;
        let (shown, names) = (String::new(), SubjectNames::Policies);
        Ok(Self { shown, file: None, journal, names, failure: Mutex::default() })
    }

    /// A survey begins anew.
    pub(crate) fn begin_survey(&self) {
        self.journal.begin_session();
    }

    /// Keeps events durably. If that fails, the report is not complete, and says so at its end.
    pub(crate) async fn keep(&self, events: &[ItemEvent]) {
        let entries = events.iter().filter_map(|event| self.entry(event)).collect();
        if let Err(error) = self.journal.keep(entries).await {
            self.note_failure(error_chain(&error));
        }
    }

    /// Notes why the report is not complete. The first reason counts.
    pub(crate) fn note_failure(&self, why: String) {
        let mut failure = self.failure.lock();
        if failure.is_none() {
            tracing::error!(why, "the report cannot be kept complete; the run goes on");
            *failure = Some(why);
        }
    }

    /// Why it is not complete, if it is not.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    fn entry(&self, event: &ItemEvent) -> Option<JournalEntry> {
        let line = EventLine::of(event).in_words(&self.names);
        let line = serde_json::to_string(&line).ok()?;
        let ItemEvent { subject, fate, of_earlier_run, .. } = event;
        Some(JournalEntry { key: key(subject), sort: subject.sort, fate: *fate, of_earlier_run: *of_earlier_run, line })
    }

    /// Writes the lines and the last line, and removes the journal. Returns why the report is not complete, if it is not.
    pub async fn finish(&self, ended: Timestamp, exit: ResultCode, summary: &RunSummary) -> Option<String> {
        let file = self.file.clone()?;
        let mut end = ReportEnd {
            ended: ended.to_string(),
            exit_code: exit.max(self.failure().map_or(ResultCode::Done, |_| ResultCode::Partial)).code(),
            in_sync: summary.in_sync != InSync::No,
            complete: self.failure().is_none(),
            lines: BTreeMap::new(),
            sums: summary.totals.each().into_iter().map(|(counter, count)| (counter.name, count)).collect(),
        };
        let lines = Arc::<Mutex<BTreeMap<String, u64>>>::default();
        let (writer, counted) = (Arc::new(Mutex::new(BufWriter::new(file.clone()))), lines.clone());
        let out = writer.clone();
        let each = move |row| write_row(&mut out.lock(), row, &mut counted.lock());
        let read = self.journal.read(each).await.map_err(|error| error_chain(&error));
        let written = read.and_then(|()| {
            end.lines = std::mem::take(&mut *lines.lock());
            let last = serde_json::to_string(&end).map_err(|error| error.to_string())?;
            let mut writer = writer.lock();
            let flushed = writeln!(writer, "{last}").and_then(|()| writer.flush());
            flushed.and_then(|()| sync(&file)).map_err(|error| format!("it cannot be written: {error}"))
        });
        let failure = match (written, self.failure()) {
            (Ok(()), None) => match self.journal.clone().remove().await {
                Ok(()) => None,
                Err(error) => Some(error_chain(&error)),
            },
            (Err(why), _) | (Ok(()), Some(why)) => Some(why),
        };
        failure.map(|why| format!("the report `{}` is not complete: {why}", self.shown))
    }
}

/// A pipe or a terminal cannot be flushed to a disk.
fn sync(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.sync_all() } else { Ok(()) }
}

/// What a line says of an entry that only an earlier run, or a task of one, had to do with.
const EARLIER_ONLY: &str = "earlier";

fn write_row(
    writer: &mut BufWriter<Arc<File>>,
    JournalRow { fate, earlier, line }: JournalRow,
    counted: &mut BTreeMap<String, u64>,
) -> io::Result<()> {
    #[derive(Serialize)]
    struct WithEarlier<'l> {
        #[serde(flatten)]
        line: &'l EventLine,
        earlier: &'static str,
    }
    let what = fate.map_or(EARLIER_ONLY, |fate| fate.as_str());
    *counted.entry(what.to_owned()).or_default() += 1;
    let Some(earlier) = earlier else { return writeln!(writer, "{line}") };
    let mut line: EventLine = serde_json::from_str(&line)?;
    what.clone_into(&mut line.what);
    line.of_earlier_run = false;
    serde_json::to_writer(&mut *writer, &WithEarlier { line: &line, earlier: earlier.as_str() })?;
    writeln!(writer)
}

/// The key of an entry: ids have no NUL.
fn key(subject: &EventSubject) -> Vec<u8> {
    let EventSubject { account, source, destination, space, name, sort } = subject;
    let ids = [
        account.as_ref().map_or("", |id| id.as_str()),
        space.as_ref().map_or("", |id| id.as_str()),
        source.as_ref().map_or("", |id| id.as_str()),
        destination.as_ref().map_or("", |id| id.as_str()),
    ];
    let mut key = Vec::new();
    for id in ids {
        key.extend_from_slice(id.as_bytes());
        key.push(0);
    }
    // Among the entries of a pair, those of one name stand together.
    key.extend_from_slice(name);
    key.extend([0, *sort as u8]);
    key
}
