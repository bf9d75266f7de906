//! Standard output: data, and nothing else.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use mill_app::result_code::ResultCode;

static LOST: AtomicBool = AtomicBool::new(false);
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Writes a line. A reader that has gone away (`mill … | head`) wants no more: the command goes on without output, and its exit
/// code stays its own.
pub(crate) fn line(text: impl AsRef<str>) {
    if CLOSED.load(Ordering::Relaxed) {
        return;
    }
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_ref().as_bytes()).and_then(|()| out.write_all(b"\n"));
    let Err(error) = written.and_then(|()| out.flush()) else { return };
    CLOSED.store(true, Ordering::Relaxed);
    if error.kind() != io::ErrorKind::BrokenPipe {
        LOST.store(true, Ordering::Relaxed);
        print_error(&format!("what is said here is lost, since standard output cannot be written: {error}"));
    }
}

/// The exit code of a command that would have ended with `exit`: no success where what it had to say is lost.
pub(crate) fn exit(exit: ResultCode) -> ResultCode {
    match exit {
        ResultCode::Done | ResultCode::Unchanged if LOST.load(Ordering::Relaxed) => ResultCode::Warnings,
        exit => exit,
    }
}

/// A table with a header, as wide as its content.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Bytes for people: `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Prints on standard error why a command failed.
pub(crate) fn print_error(text: &str) {
    // Nothing can be done if even this cannot be written.
    let _ = writeln!(io::stderr(), "mill: {text}");
}
