//! Reads one object of a stores file member by member. The readers of all types of store use it.

use std::path::PathBuf;

use crate::diagnostic::{Diagnostics, MemberPath};
use crate::json::JsonValue;
use crate::json_schema::{self, Members};

const NO_SECRETS: &str = "a secret may not stand in this file; remove it (change it too if others could read the file), \
    and under `credentials` name what holds it: `accessKeyIdEnv` and `secretAccessKeyEnv` an environment variable, \
    or `accessKeyIdFile` and `secretAccessKeyFile` a file";

/// Reads the members of one object. Each method records what is wrong with a member, and returns `None` if it could not
/// be read.
pub(crate) struct ObjectReader<'o, 't> {
    pub(crate) faults: &'o mut Diagnostics<'t>,
    /// Whether the text was parsed to its end. Then a member that is not found is certainly missing.
    pub(crate) whole: bool,
    pub(crate) members: Members<'o>,
    pub(crate) path: &'o MemberPath<'o>,
}

impl ObjectReader<'_, '_> {
    /// Records an error of a member, or of the whole object if the member is absent.
    pub(crate) fn error(&mut self, name: &str, message: impl Into<String>) {
        match self.members.get(name) {
            Some(node) => self.faults.error(node.at, &self.path.member(name), message),
            None => self.error_of_object(message),
        }
    }

    /// Records an error of the object.
    pub(crate) fn error_of_object(&mut self, message: impl Into<String>) {
        self.faults.error(self.members.at, self.path, message);
    }

    /// Records a missing member, if the text was parsed to its end.
    pub(crate) fn error_of_missing(&mut self, message: impl Into<String>) {
        if self.whole {
            self.error_of_object(message);
        }
    }

    /// Whether a member is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some()
    }

    /// The path of a file or folder; required.
    pub(crate) fn required_path(&mut self, name: &str, wanted: &str) -> Option<PathBuf> {
        self.faults.required(self.members, self.path, name, self.whole)?;
        self.optional_path(name, wanted)?
    }

    /// The path of a file or folder; optional.
    #[allow(clippy::option_option)] // Outside: whether it could be read; inside: whether it is given.
    pub(crate) fn optional_path(&mut self, name: &str, wanted: &str) -> Option<Option<PathBuf>> {
        let Some(node) = self.members.get(name) else { return Some(None) };
        let text = self.faults.text(node, &self.path.member(name), wanted)?;
        if text.is_empty() || text.contains('\0') {
            self.error(name, format!("this must be {wanted}, not empty and without NUL"));
        } else if text.starts_with('~') {
            self.error(name, "`~` is not expanded; write the whole path");
        } else {
            return Some(Some(PathBuf::from(text)));
        }
        None
    }

    /// A text; optional, but not empty.
    #[allow(clippy::option_option)] // Outside: whether it could be read; inside: whether it is given.
    pub(crate) fn optional_text(&mut self, name: &str, wanted: &str) -> Option<Option<String>> {
        let Some(node) = self.members.get(name) else { return Some(None) };
        let text = self.faults.text(node, &self.path.member(name), wanted)?;
        if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            let message = format!("this must be {wanted}, not empty and without blanks; or remove the member");
            self.error(name, message);
            return None;
        }
        Some(Some(text.to_owned()))
    }

    /// A list of ids; required.
    pub(crate) fn required_ids<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl Fn(String) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let node = self.faults.required(self.members, self.path, name, self.whole)?;
        let path = self.path.member(name);
        let items = self.faults.list(node, &path, wanted)?;
        let ids = items.iter().enumerate().map(|(index, item)| self.faults.id(item, &path.index(index), wanted, &read));
        // All of them are read, so that each fault is named.
        ids.collect::<Vec<_>>().into_iter().collect()
    }

    /// `true` or `false`; `usual` if it is absent.
    pub(crate) fn optional_boolean(&mut self, name: &str, usual: bool) -> Option<bool> {
        match self.members.get(name) {
            Some(node) => self.faults.boolean(node, &self.path.member(name)),
            None => Some(usual),
        }
    }

    /// An object within this one; `read` reads it.
    #[allow(clippy::option_option)] // Outside: whether it could be read; inside: whether it is given.
    pub(crate) fn optional_object<T>(
        &mut self,
        (name, wanted): (&str, &str),
        read: impl FnOnce(&mut ObjectReader<'_, '_>) -> Option<T>,
    ) -> Option<Option<T>> {
        let Some(node) = self.members.get(name) else { return Some(None) };
        let path = self.path.member(name);
        let members = self.faults.object(node, &path, wanted)?;
        let mut inner = ObjectReader { faults: &mut *self.faults, whole: self.whole, members, path: &path };
        read(&mut inner).map(Some)
    }

    /// The name of an environment variable. No message repeats it: it might be the secret itself.
    #[allow(clippy::option_option)] // Outside: whether it could be read; inside: whether it is given.
    pub(crate) fn optional_variable(&mut self, name: &str) -> Option<Option<String>> {
        let Some(node) = self.members.get(name) else { return Some(None) };
        let variable = self.faults.text(node, &self.path.member(name), "the name of an environment variable")?;
        let plain = variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !plain || variable.is_empty() || variable.as_bytes()[0].is_ascii_digit() {
            let message = "this is no name of an environment variable (letters, digits and `_`); if it is the \
                secret itself, remove it, and name here what holds it";
            self.error(name, message);
            return None;
        }
        Some(Some(variable.to_owned()))
    }

    /// The address of a service, without credentials.
    #[allow(clippy::option_option)] // Outside: whether it could be read; inside: whether it is given.
    pub(crate) fn optional_address(&mut self, name: &str, wanted: &str) -> Option<Option<String>> {
        let Some(given) = self.optional_text(name, wanted)? else { return Some(None) };
        let rest = given.strip_prefix("https://").or(given.strip_prefix("http://"));
        match rest {
            Some(rest) if rest.contains(['@', '?', '#']) => self.error(name, NO_SECRETS),
            Some(rest) if !rest.is_empty() && !rest.starts_with('/') => return Some(Some(given)),
            _ => self.error(name, "this must be an address that begins with https:// or http://"),
        }
        None
    }

    /// Records unknown members. A name that looks like a secret gets its own message.
    pub(crate) fn only_known_members(&mut self, known: &[&str]) {
        for member in self.members.all {
            let (name, path) = (member.name.as_str(), self.path.member(&member.name));
            if !known.contains(&name) && is_secret(name) && !matches!(member.value.value, JsonValue::Object(_)) {
                self.faults.error(member.at, &path, NO_SECRETS);
            } else if !known.contains(&name) {
                self.faults.error(member.at, &path, json_schema::unknown_member(name, known));
            }
        }
    }
}

/// Whether a member of this name would hold a secret itself.
pub(crate) fn is_secret(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let reference = name.ends_with("env") || name.ends_with("file");
    let words =
        ["secret", "password", "passwd", "passphrase", "token", "accesskey", "apikey", "privatekey", "credential"];
    !reference && words.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_one() {
        for name in
            ["secretAccessKey", "secret_access_key", "password", "accessKeyId", "apiKey", "sessionToken", "AWS-SECRET"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["secretAccessKeyEnv", "secretAccessKeyFile", "root", "bucket"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
