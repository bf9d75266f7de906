//! Standard output: data, and nothing else.

use std::io::{self, Write};

/// Writes a line. A reader that has gone away (`mill … | head`) ends the process quietly, as other tools do.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_ref().as_bytes()).and_then(|()| out.write_all(b"\n"));
    if written.and_then(|()| out.flush()).is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(i32::from(mill_app::result_code::ResultCode::Done.code()));
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
