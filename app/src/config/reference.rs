//! Texts generated from the table of settings: the file that `mill init` writes, and `docs/settings.md`.

use std::fmt::Write as _;

use super::settings::settings;

/// The file that `mill init` writes: every setting with its default, commented out, except those in `set`.
pub fn template(set: &[(&str, &str)]) -> String {
    let mut out = String::from(
        "# Configuration of Mill. Every setting is shown with its default; take off the `#` to change one.\n\
         # `mill config show` tells each value and where it comes from.\n",
    );
    let mut section = "";
    for setting in settings() {
        if setting.section() != section {
            section = setting.section();
            out.extend(["\n[", section, "]\n"]);
        }
        let set = set.iter().find(|(key, _)| *key == setting.key).map(|(_, value)| *value);
        let mark = if set.is_some() { "" } else { "# " };
        let value = written(set.unwrap_or(setting.default));
        out.extend([mark, setting.name(), " = ", &value, "    # ", setting.about, "\n"]);
    }
    out
}

/// A value as it is written in the file.
fn written(text: &str) -> String {
    text.parse::<u64>().map_or_else(|_| format!("\"{text}\""), |number| number.to_string())
}

/// The content of `docs/settings.md`.
pub fn settings_page() -> String {
    let mut out = String::from(
        "# Settings\n\n\
         Generated from the settings' own table (`app/src/config/settings.rs`, `app/src/engine_choice.rs`); a test compares the \
         two.\n\n\
         A value is taken from its environment variable, else from `mill.toml`, else it is the default. The variable of \
         `workman.workers` is `MILL_WORKMAN_WORKERS`: `MILL_`, and the key in capitals with `_` for `.` and `-`. `mill config \
         show` gives each value and where it comes from. Durations are written `500ms`, `90s`, `5m`, `1d`; lists have commas.\n",
    );
    let mut section = "";
    for setting in settings() {
        if setting.section() != section {
            section = setting.section();
            let _ = write!(
                out,
                "\n## `[{section}]`\n\n| setting | default | what it is | for example | what it costs |\n|---|---|---|---|---|\n"
            );
        }
        let (example, whom) = setting.example;
        let default =
            if setting.default.is_empty() { "none".to_owned() } else { format!("`{}`", written(setting.default)) };
        let _ = writeln!(
            out,
            "| `{}` | {default} | {} | `{}`: {whom} | {} |",
            setting.name(),
            setting.about,
            written(example),
            setting.cost
        );
    }
    out
}
