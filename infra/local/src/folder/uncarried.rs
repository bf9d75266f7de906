//! What a file has that no copy gets.

use mill_model::Uncarried;
use rustix::fs::{FileType, Stat};
use rustix::process::Uid;

use super::attribute_names::{AttributeNames, OWN_USER};

/// What a file or directory has that no copy gets. A file system that tells no attributes has none.
pub(super) fn of(stat: &Stat, names: &AttributeNames) -> Vec<Uncarried> {
    let mut found = Vec::new();
    if Uid::from_raw(stat.st_uid) != *OWN_USER {
        found.push(Uncarried::Owner);
    }
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink > 1 {
        found.push(Uncarried::HardLinks);
    }
    if names.iter().any(|name| kind_of(name) == Some(Uncarried::AccessList)) {
        found.push(Uncarried::AccessList);
    }
    let others = names.iter().any(|name| kind_of(name) == Some(Uncarried::Attributes));
    if others || *names == AttributeNames::TooMany {
        found.push(Uncarried::Attributes);
    }
    found
}

/// What an extended attribute of this name is; `None` for Mill's own, and for the label that a system gives to each file.
fn kind_of(name: &[u8]) -> Option<Uncarried> {
    match name {
        b"security.selinux" => None,
        name if name.starts_with(b"user.mill.") => None,
        b"system.posix_acl_access" | b"system.posix_acl_default" | b"system.nfs4_acl" => Some(Uncarried::AccessList),
        _ => Some(Uncarried::Attributes),
    }
}
