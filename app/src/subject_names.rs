//! The names of things in messages: accounts, stores and spaces of the policies, or, for a mirror, the two paths that
//! the person typed.

use std::borrow::Cow;
use std::path::Path;

use mill_model::ids::escape_bytes_for_display;
use mill_model::{AccountId, EventSubject, SpaceId, SpacePair, StoreId, SubjectSort};
use mill_processors::refusals::Refusal;
use mill_producer::{
    AbsentSpace, HeldDeletes, LeftOutEntry, MissingEntry, SpaceFailure, SpaceFailureKind, UncopiedEntry,
};
use mill_records::delete_lists::HoldReason;

use crate::mirror::{EndpointOptions, MirrorRequest};
use crate::redact::without_password;
use crate::restore::RestoreRequest;

/// How messages name the subjects of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectNames {
    /// By account, store and space.
    Policies,
    /// By the two ends of a mirror.
    Mirror {
        /// The source, as it was typed.
        source: String,
        /// The destination, as it was typed.
        destination: String,
        /// Both with what says how to reach them, as words of a command.
        words: String,
    },
}

impl SubjectNames {
    /// The account of a mirror's policy, which is never shown to people.
    pub const MIRROR_ACCOUNT: &str = "mirror";
    /// The stores of a mirror's policy.
    pub const MIRROR_SOURCE: &str = "source";
    /// The stores of a mirror's policy.
    pub const MIRROR_DESTINATION: &str = "destination";
    /// The one space of a mirror.
    pub const MIRROR_SPACE: &str = "content";

    /// The names of a mirror's ends, as they were typed.
    pub fn of_mirror(request: &MirrorRequest) -> Self {
        let shown = |path: &Path| path.display().to_string();
        let (source, destination) = (shown(&request.source), shown(&request.destination));
        let mut words = format!("{} {}", shell_word(&source), shell_word(&destination));
        for (which, options) in [("source", &request.source_options), ("destination", &request.destination_options)] {
            let EndpointOptions { endpoint, region, profile, options } = options;
            let endpoint = endpoint.as_deref().map(without_password);
            for (name, given) in [("endpoint", &endpoint), ("region", region), ("profile", profile)] {
                let given = given.as_ref().map(|given| format!(" --{which}-{name} {}", shell_word(given)));
                words.push_str(&given.unwrap_or_default());
            }
            words.extend(options.iter().map(|option| format!(" --{which}-option {option}")));
        }
        Self::Mirror { source, destination, words }
    }

    /// What a command about this mirror ends with, after a blank. Empty for policies.
    pub fn mirror_option(&self) -> String {
        match self {
            Self::Policies => String::new(),
            Self::Mirror { words, .. } => format!(" --mirror {words}"),
        }
    }

    /// Translates a text with accounts, stores and spaces into names that the person knows.
    pub fn text(&self, text: &str) -> String {
        let Self::Mirror { source, destination, .. } = self else { return text.to_owned() };
        let mut out = text.to_owned();
        for (store, path) in [("mirror:source", source), ("mirror:destination", destination)] {
            out = out.replace(&format!("store `{store}`"), &format!("`{path}`"));
            for subject in ["`content`", "``"] {
                out = out.replace(&format!("of {subject} in `{path}`"), &format!("of `{path}`"));
            }
            out = without_root(out, path);
            out = out.replace(&format!("{store}/content"), path).replace(store, path);
        }
        for space in ["space `content` of account `mirror`", "account `mirror`", "space `content`"] {
            out = out.replace(space, &format!("`{source}`"));
        }
        // The words before it say which listing it is.
        out = out.replace("the listing of `content`", "the listing");
        // Piece by piece, so that the source's own folder `content` is not removed too.
        let pieces = out.split("mirror/content/");
        pieces.map(|piece| piece.replace("`content/", "`").replace("mirror/content", source)).collect()
    }

    /// Translates a field of a log line into names that the person knows. `None` if it says nothing because it is the
    /// same for the whole mirror.
    pub fn fact<'v>(&'v self, name: &str, value: &'v str) -> Option<&'v str> {
        let Self::Mirror { source, destination, .. } = self else { return Some(value) };
        match (name, value.trim_matches('"')) {
            ("account", Self::MIRROR_ACCOUNT)
            | ("space", Self::MIRROR_SPACE)
            | ("source", Self::MIRROR_SOURCE)
            | ("destination", Self::MIRROR_DESTINATION) => None,
            ("store", Self::MIRROR_SOURCE) => Some(source),
            ("store", Self::MIRROR_DESTINATION) => Some(destination),
            _ => Some(value),
        }
    }

    /// The source of a mirror, within a sentence.
    pub fn source(&self) -> String {
        match self {
            Self::Policies => "the source".to_owned(),
            Self::Mirror { source, .. } => format!("`{source}`"),
        }
    }

    /// A space of a store, within a sentence.
    fn space(&self, account: &AccountId, space: &SpaceId) -> String {
        match self {
            Self::Policies => format!("space `{space}` of account `{account}`"),
            Self::Mirror { source, .. } => format!("`{source}`"),
        }
    }

    /// The destination of a pair's copies, within a sentence.
    fn way(&self, source: &StoreId, destination: &StoreId) -> String {
        match self {
            Self::Policies => format!(" (store {source} → {destination})"),
            Self::Mirror { .. } => String::new(),
        }
    }

    /// An entry of a source that is not copied.
    pub fn entry(&self, entry: &UncopiedEntry) -> String {
        let UncopiedEntry { account, space, source, shown, class } = entry;
        let place = match self {
            Self::Policies => format!(" in {} (store {source})", self.space(account, space)),
            Self::Mirror { .. } => String::new(),
        };
        format!("not copied: `{shown}`{place}: {class}")
    }

    /// A deed that was refused.
    pub fn refused(&self, Refusal { subject, reason, deed }: &Refusal) -> String {
        self.text(&format!("{}: `{subject}`: {reason}", deed.as_str()))
    }

    /// What an event is about.
    pub fn of_event(&self, subject: &EventSubject) -> String {
        let EventSubject { account, source, destination, space, name, sort } = subject;
        let shown = escape_bytes_for_display(name);
        if *sort == SubjectSort::Other {
            return self.text(&shown);
        }
        match (self, account, space) {
            (Self::Policies, Some(account), Some(space)) => {
                let way = source.as_ref().zip(destination.as_ref());
                let way = way.map_or_else(String::new, |(source, destination)| self.way(source, destination));
                format!("{account}/{space}/{shown}{way}")
            }
            _ => shown,
        }
    }

    /// A dead-lettered task. A mirror's next run tries again what is not in sync then.
    ///
    /// `id`: by which a command shows it, if one can.
    pub fn given_up(&self, id: Option<&str>, subject: Option<&str>, reason: &str) -> String {
        let what = subject.map_or_else(|| "a task that nobody can read".to_owned(), |subject| format!("`{subject}`"));
        let said = subject.and_then(|subject| reason.strip_prefix(&format!("`{subject}` is not in sync yet: ")));
        // The whole reason, because the cause is at its end.
        let reason = said.unwrap_or(reason).escape_debug();
        let command = |id| format!(" (mill deadletters show {id}{})", self.mirror_option());
        let command = id.map_or_else(String::new, command);
        match self {
            Self::Policies => format!("dead-lettered {what}: {reason}{command}"),
            Self::Mirror { .. } => self.text(&format!("given up {what}: {reason}")) + &command,
        }
    }

    /// An account, within a sentence.
    pub fn account(&self, account: &AccountId) -> String {
        match self {
            Self::Policies => format!("account `{account}`"),
            Self::Mirror { source, .. } => format!("`{source}`"),
        }
    }

    /// What a policy excludes; a mirror's policy excludes nothing.
    pub fn left_out(entry: &LeftOutEntry) -> String {
        let LeftOutEntry { account, store, shown, is_space, rule } = entry;
        let what = if *is_space { "space " } else { "" };
        let store = store.as_ref().map_or_else(String::new, |store| format!(" in store {store}"));
        format!("not copied: {what}`{shown}`{store} of account `{account}`: {rule}")
    }

    /// An item that is not in sync.
    pub fn missing(&self, MissingEntry { pair, id }: &MissingEntry) -> String {
        let SpacePair { account, source, destination, space } = pair;
        match self {
            Self::Policies => {
                let place = self.space(account, space);
                format!("not in sync: `{id}` of {place}{}", self.way(source, destination))
            }
            Self::Mirror { .. } => format!("not in sync: `{id}`"),
        }
    }

    /// An absent space.
    pub fn absent(&self, absent: &AbsentSpace) -> String {
        let AbsentSpace { account, space, source, has_copy, .. } = absent;
        let copy = if *has_copy { "; its copy is kept" } else { "" };
        format!(
            "{} is not there in store {source}, its source (not mounted, renamed or deleted?){copy}",
            self.space(account, space)
        )
    }

    /// A skipped space.
    pub fn failed(&self, failed: &SpaceFailure) -> String {
        let SpaceFailure { account, space, source, destination, failure_kind, reason } = failed;
        let hint = if *failure_kind == SpaceFailureKind::Silent { "; `--give-up-after` allows longer" } else { "" };
        let reason = self.text(reason) + hint;
        match (self, space) {
            (Self::Mirror { source, .. }, _) => format!("`{source}` could not be copied: {reason}"),
            (Self::Policies, Some(space)) => {
                let to = destination.as_ref().map_or_else(String::new, |destination| format!(" → {destination}"));
                format!("{} (store {source}{to}): {reason}", self.space(account, space))
            }
            (Self::Policies, None) => format!("all spaces of account `{account}` (store {source}): {reason}"),
        }
    }

    /// How a person sees the held deletes of a list, and lets them go.
    fn confirm_hint(&self, token: &str) -> String {
        let of = self.mirror_option();
        let confirm = match self {
            Self::Policies => format!("run the same again with --confirm-deletes {token}"),
            Self::Mirror { words, .. } => {
                format!("run `mill mirror {words} --remove-vanished --confirm-deletes {token}`")
            }
        };
        format!(
            ". `mill held show {token}{of}` lists them. If all of these are to go, {confirm}; what is to stay, put back"
        )
    }

    /// A list of deletes that are held. `kept`: whether it can be confirmed; the list of a dry run is gone.
    pub fn held(&self, held: &HeldDeletes, kept: bool) -> String {
        let HeldDeletes { account, space, source, destination, count, items_total, reason, token } = held;
        let what = match self {
            Self::Policies => format!("of space `{space}` ({account}: store {source} → {destination})"),
            Self::Mirror { destination, .. } => format!("in `{destination}`"),
        };
        let way_out = if matches!(reason, HoldReason::SpaceMissing { for_a_day: false, .. }) {
            String::new()
        } else if !kept {
            "; a run keeps them too, and says how to let them go".to_owned()
        } else {
            self.confirm_hint(token)
        };
        format!("not deleted: {count} of {items_total} items {what} are gone from the source, and {reason}{way_out}")
    }
}

/// The names of a restoration's stores: those of the copy, and the place that it is brought back to.
#[derive(Debug)]
pub struct RestoreNames<'n> {
    /// The names of the copy.
    pub copy: SubjectNames,
    /// The place, as it was typed.
    pub to: &'n str,
}

impl RestoreNames<'_> {
    /// Translates a text into names that the person knows.
    pub fn text(&self, text: &str) -> String {
        let place = RestoreRequest::PLACE;
        let named = text.replace(&format!("store `{place}`"), &format!("`{}`", self.to)).replace(place, self.to);
        self.copy.text(&named)
    }
}

/// A path as a shell reads it.
fn shell_word(path: &str) -> Cow<'_, str> {
    shlex::try_quote(path).unwrap_or(Cow::Borrowed(path))
}

/// Names the root of a mirror's folder in a text by its path as it was typed, once.
fn without_root(mut text: String, path: &str) -> String {
    const BEGINS: &str = "of `/";
    let ends = format!("` in `{path}`");
    let mut from = 0;
    while let Some(end) = text[from..].find(&ends).map(|at| from + at) {
        from = end + ends.len();
        let Some(start) = text[..end].rfind(BEGINS) else { continue };
        let root = &text[start + BEGINS.len()..end];
        // Only the root itself, nothing else that is named beside it.
        if !root.contains('`') && !root.contains(": ") {
            let named = format!("of `{path}`");
            text.replace_range(start..from, &named);
            from = start + named.len();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrors_messages_speak_of_the_paths_that_were_typed() {
        let names = SubjectNames::of_mirror(&MirrorRequest {
            source: "~/Pictures".into(),
            destination: "/mnt/copy".into(),
            ..MirrorRequest::default()
        });
        for (made, said) in [
            (
                "write of `content/a/b` in store `mirror:destination` failed: x",
                "write of `a/b` in `/mnt/copy` failed: x",
            ),
            ("list of `content` in store `mirror:source` failed: y", "list of `~/Pictures` failed: y"),
            ("`mirror/content/content/x` is not in sync yet", "`content/x` is not in sync yet"),
            ("refused (in store `mirror:destination`)", "refused (in `/mnt/copy`)"),
            ("store mirror:source cannot be used", "store ~/Pictures cannot be used"),
            ("look of `` in store `mirror:destination` failed", "look of `/mnt/copy` failed"),
            ("look of `/mnt/copy` in store `mirror:destination` failed", "look of `/mnt/copy` failed"),
            ("list of `/home/me/Pictures` in store `mirror:source` failed: z", "list of `~/Pictures` failed: z"),
            (
                "look of `/mnt/copy: disk` in store `mirror:destination` failed",
                "look of `/mnt/copy: disk` in `/mnt/copy` failed",
            ),
            ("of the source: the listing of `content` broke off", "of the source: the listing broke off"),
            ("the owner of the space `mirror:destination/content` cannot", "the owner of the space `/mnt/copy` cannot"),
            ("for space `content` of account `mirror`", "for `~/Pictures`"),
        ] {
            assert_eq!(names.text(made), said);
            assert_eq!(SubjectNames::Policies.text(made), made);
        }
        let given_up = |subject| {
            let reason =
                "`mirror/content/a/b` is not in sync yet: put of `content/a/b` in store `mirror:destination` failed";
            names.given_up(Some("id"), subject, reason)
        };
        assert_eq!(
            given_up(Some("mirror/content/a/b")),
            "given up `a/b`: put of `a/b` in `/mnt/copy` failed (mill deadletters show id --mirror '~/Pictures' /mnt/copy)"
        );
        assert!(!given_up(None).contains("mirror:"));
    }

    #[test]
    fn a_command_that_is_named_finds_the_same_mirror() {
        let mut request = MirrorRequest {
            source: "my pictures".into(),
            destination: "s3://it's/there".into(),
            ..MirrorRequest::default()
        };
        request.destination_options.endpoint = Some("https://s3.example.org:9000".into());
        request.source_options.profile = Some("one".into());
        request.destination_options.options = vec!["pathStyle=true".parse().unwrap()];
        let SubjectNames::Mirror { words, .. } = SubjectNames::of_mirror(&request) else { panic!("it is a mirror") };
        let words = shlex::split(&words).unwrap();
        assert_eq!(words[..2], ["my pictures", "s3://it's/there"]);
        let of_destination =
            ["--destination-endpoint", "https://s3.example.org:9000", "--destination-option", "pathStyle=true"];
        assert_eq!(words[2..], [&["--source-profile", "one"][..], &of_destination].concat());
    }
}
