//! What a file has that no copy gets.

use mill_model::Uncarried;
use rustix::fd::AsFd;
use rustix::fs::FileType;
use rustix::io::Errno;

/// Longest list of names that is looked through. Mill's own and a system's label are far shorter.
const NAMES_MAX: usize = 4096;

/// What an open file or directory has that no copy gets.
///
/// # Errors
/// The file cannot be looked at. A file system that tells no attributes has none.
pub(super) fn of(file: impl AsFd) -> Result<Vec<Uncarried>, Errno> {
    let stat = rustix::fs::fstat(&file)?;
    let mut found = Vec::new();
    if rustix::process::Uid::from_raw(stat.st_uid) != rustix::process::geteuid() {
        found.push(Uncarried::Owner);
    }
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink > 1 {
        found.push(Uncarried::HardLinks);
    }
    let mut names = [0_u8; NAMES_MAX];
    let kinds = match rustix::fs::flistxattr(&file, &mut names[..]) {
        Ok(length) => names[..length].split(|byte| *byte == 0).filter_map(kind_of).collect(),
        Err(Errno::RANGE) => vec![Uncarried::Attributes],
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::ACCESS) => Vec::new(),
        Err(errno) => return Err(errno),
    };
    for kind in [Uncarried::AccessList, Uncarried::Attributes] {
        found.extend(kinds.contains(&kind).then_some(kind));
    }
    Ok(found)
}

/// What an extended attribute of this name is; `None` for Mill's own, and for the label that a system gives to each file.
fn kind_of(name: &[u8]) -> Option<Uncarried> {
    match name {
        b"" | b"security.selinux" => None,
        name if name.starts_with(b"user.mill.") => None,
        b"system.posix_acl_access" | b"system.posix_acl_default" | b"system.nfs4_acl" => Some(Uncarried::AccessList),
        _ => Some(Uncarried::Attributes),
    }
}
