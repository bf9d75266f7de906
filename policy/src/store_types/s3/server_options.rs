//! What a server in S3's manner can and cannot do, as options of a command: `wholeChecksums=false`. They are members of a store of
//! type `s3`, and mean the same.

use std::fmt;
use std::str::FromStr;

use super::Dialect;

/// How a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTraits {
    /// Whether the bucket is in the path rather than in the host name.
    pub path_style: bool,
    /// How it differs from Amazon's.
    pub dialect: Dialect,
}

type Trait = (&'static str, fn(&mut ServerTraits) -> &mut bool);

/// The members of a store that say yes or no.
const TRAITS: [Trait; 6] = [
    ("pathStyle", |server| &mut server.path_style),
    ("conditionalWrites", |server| &mut server.dialect.conditional_writes),
    ("wholeChecksums", |server| &mut server.dialect.whole_checksums),
    ("sha256", |server| &mut server.dialect.sha256),
    ("md5Tags", |server| &mut server.dialect.md5_tags),
    ("serverSideCopies", |server| &mut server.dialect.server_side_copies),
];

/// One of them, as `NAME=VALUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerOption {
    /// Its index in [`TRAITS`].
    of: usize,
    value: bool,
}

impl ServerOption {
    /// Sets it.
    pub fn apply(self, server: &mut ServerTraits) {
        if let Some((_, field)) = TRAITS.get(self.of) {
            *field(server) = self.value;
        }
    }
}

impl fmt::Display for ServerOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", TRAITS.get(self.of).map_or("", |(name, _)| name), self.value)
    }
}

/// A text that is no option. It says which there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptionError(String);

impl fmt::Display for ServerOptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerOptionError {}

impl FromStr for ServerOption {
    type Err = ServerOptionError;

    fn from_str(text: &str) -> Result<Self, ServerOptionError> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let Some(of) = TRAITS.iter().position(|(known, _)| *known == name) else {
            let meant = nearest(name).map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
            let there_are = if meant.is_empty() { "; there are" } else { " There are" };
            let all = TRAITS.map(|(name, _)| name).join(", ");
            return Err(ServerOptionError(format!("no option is named `{name}`{meant}{there_are} {all}")));
        };
        match value {
            "true" => Ok(Self { of, value: true }),
            "false" => Ok(Self { of, value: false }),
            _ => Err(ServerOptionError(format!("write `{name}=true` or `{name}=false`"))),
        }
    }
}

fn nearest(unknown: &str) -> Option<&'static str> {
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(&unknown.to_lowercase(), &name.to_lowercase());
    let near = TRAITS.iter().map(|(name, _)| (likeness(name), *name)).filter(|(like, _)| *like > 0.6);
    near.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::super::MEMBERS;
    use super::*;

    #[test]
    fn every_member_that_says_yes_or_no_is_an_option() {
        let members: Vec<&str> =
            MEMBERS.iter().filter(|it| ["true", "false"].contains(&it.example)).map(|it| it.name).collect();
        assert_eq!(members, TRAITS.map(|(name, _)| name));
    }

    #[test]
    fn an_option_sets_what_it_names_alone() {
        let usual = ServerTraits { path_style: false, dialect: Dialect::usual(true) };
        for (name, field) in TRAITS {
            let mut server = usual;
            let before = *field(&mut server);
            let option: ServerOption = format!("{name}={}", !before).parse().unwrap();
            option.apply(&mut server);
            assert_eq!(*field(&mut server), !before, "{option}");
            *field(&mut server) = before;
            assert_eq!(server, usual, "{option}");
        }
    }

    #[test]
    fn what_is_no_option_is_named_with_the_nearest() {
        let error = |text: &str| text.parse::<ServerOption>().unwrap_err().to_string();
        assert!(error("pathstyle=true").contains("`pathstyle`, did you mean `pathStyle`?"));
        assert!(error("wholeChecksum=false").contains("did you mean `wholeChecksums`?"));
        assert!(error("region=x").contains("`region`; there are pathStyle, conditionalWrites,"));
        assert_eq!(error("sha256"), "write `sha256=true` or `sha256=false`");
        assert_eq!(error("sha256=yes"), "write `sha256=true` or `sha256=false`");
    }
}
